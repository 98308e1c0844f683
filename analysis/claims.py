"""The paper's four claims, tested."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.intervals import Interval

Verdict = Literal["holds", "does not", "cannot tell with these seeds"]


@dataclass(frozen=True)
class Claim:
    """One claim of arXiv 2308.12114, what was found, and what follows.

    Attributes:
        name: for file names and anchors: as_good, gains, rises_then_falls, structured.
        statement: in words.
        how: what was compared with what, and what the effect is.
        data: what is behind it, one row a unit (setup, tasks, penalty): `effect`, `low`, `high`, `p_value`,
            `adjusted_p` (Holm, over the rows), `seeds`, and what was compared.
        effect: over all units, the mean over seeds, a fraction (0.01 is one per cent better), with its 95 % interval.
        margin: what `effect` is tested against: it must lie above.
        adjusted_p: `effect.p_value` by Holm over the claims; NaN where it could not be tested.
        verdict: holds, does not, or cannot tell.
        why: one sentence: what decided, or what is missing.
    """

    name: str
    statement: str
    how: str
    data: pd.DataFrame
    effect: Interval
    margin: float
    adjusted_p: float
    verdict: Verdict
    why: str
