"""The errors that end a sweep early. Nothing that is done is lost, and the same command continues the sweep."""


class SweepStopped(RuntimeError):
    """Its message says in one line what stopped the sweep."""


class StorageError(SweepStopped):
    """The storage failed for longer than its patience, or in a way that waiting cannot help."""


class LeaseLost(SweepStopped):
    """Another driver has taken the sweep over."""


class StudyError(SweepStopped):
    """The storage of the search's study failed."""
