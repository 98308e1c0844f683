"""Why a sweep ends before its trials have: what is done stays, and the same command goes on."""


class SweepStopped(RuntimeError):
    """One line that says what stopped the sweep."""


class StorageError(SweepStopped):
    """The storage failed for longer than was worth waiting, or in a way that waiting does not mend."""


class LeaseLost(SweepStopped):
    """Another driver has taken the sweep over."""


class StudyError(SweepStopped):
    """The storage of the search's study failed."""
