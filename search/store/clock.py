"""Moments as the files of a sweep write them: UTC, ISO 8601, to the millisecond."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator


def now(since: str = "") -> str:
    """This moment, and never before `since`: of two machines one's clock may be behind."""
    return max(datetime.now(UTC).isoformat(timespec="milliseconds"), since)


def _checked(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return text


# In a file's schema.
Moment = Annotated[str, AfterValidator(_checked)]
