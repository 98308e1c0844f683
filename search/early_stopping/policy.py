"""Decides after each epoch which running trials go on."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mtl.config import TrialConfig


class StoppingPolicy(Protocol):
    """Decides which running trials go on."""

    def record(self, config: TrialConfig, row: Mapping[str, float]) -> object:
        """Note an epoch after which nothing is decided."""

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        """An epoch has ended; returns whether the trial goes on."""

    def why_stopped(self, config: TrialConfig) -> str:
        """Why a trial was stopped, in one line."""


def stays(
    policy: StoppingPolicy | None, config: TrialConfig, rows: Sequence[Mapping[str, float]], *, ended: bool = False
) -> bool:
    """Tell the policy a trial's new epochs; returns whether the trial goes on. Only the last epoch decides.

    ended: whether the trial has ended by itself, so that nothing is left to decide.
    """
    # A trial that starts from another's model is ahead of the others after as many epochs: it is not compared.
    if policy is None or not rows or config.warm_started_from:
        return True
    for row in rows if ended else rows[:-1]:
        policy.record(config, row)
    return ended or policy.report(config, rows[-1])
