"""The two ways a trial can go wrong that are worth telling apart, and how their messages are shown."""

# Characters of an error's line: a value of a megabyte says nothing more.
MOST_SHOWN = 2000


class BadInput(ValueError):
    """What the user gave cannot work: one line that names the thing, the value found and what is allowed."""


class TrialFailed(RuntimeError):
    """The trial itself went wrong while it ran (say, a loss that is not a number)."""


def one_line(text: str) -> str:
    """A message on one line: line ends in names and values are escaped, and the middle of a long message is cut."""
    escaped = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    half = MOST_SHOWN // 2
    return escaped if len(escaped) <= MOST_SHOWN else f"{escaped[:half]} … {escaped[-half:]}"
