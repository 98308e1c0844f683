"""What decides, epoch by epoch, which of the running trials go on."""

from collections.abc import Mapping, Sequence
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


def stays(
    policy: StoppingPolicy | None, config: TrialConfig, rows: Sequence[Mapping[str, float]], *, ended: bool = False
) -> bool:
    """Tell the policy of a trial's new epochs; whether the trial goes on. It decides by the last epoch alone.

    ended: whether the trial has come to its end by itself, so that nothing is left to decide.
    """
    if policy is None or not rows:
        return True
    for row in rows if ended else rows[:-1]:
        policy.record(config, row)
    return ended or policy.report(config, rows[-1])
