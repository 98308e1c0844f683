"""What decides, epoch by epoch, which of the running trials go on."""

from collections.abc import Mapping
from typing import Protocol

from mtl.config import TrialConfig


class StoppingPolicy(Protocol):
    """Decides which running trials go on."""

    def record(self, config: TrialConfig, row: Mapping[str, float]) -> object:
        """An epoch after which nothing is to be decided."""

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        """An epoch has ended; whether the trial goes on."""

    def why_stopped(self, config: TrialConfig) -> str:
        """What to say of a trial that does not."""
