"""The two ways a trial can go wrong that are worth telling apart."""


class BadInput(ValueError):
    """What the user gave cannot work: one line that names the thing, the value found and what is allowed."""


class TrialFailed(RuntimeError):
    """The trial itself went wrong while it ran (say, a loss that is not a number)."""
