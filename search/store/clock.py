"""Times in the files of a sweep: UTC, ISO 8601, in milliseconds."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator


def now(since: str = "") -> str:
    """The current time, but not before `since`: another machine's clock may be ahead."""
    return max(datetime.now(UTC).isoformat(timespec="milliseconds"), since)


def _checked(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return text


# In a file's schema.
Moment = Annotated[str, AfterValidator(_checked)]
