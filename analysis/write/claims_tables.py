"""The claims as tables: for programs, and written for people."""

from collections.abc import Sequence

import pandas as pd

from analysis import text
from analysis.compute.claims import SIGNIFICANCE, Claim
from analysis.compute.text_table import TextTable, cells

COLUMNS = ["claim", "statement", "verdict", "effect", "low", "high", "p_value", "adjusted_p", "margin", "seeds", "why"]


def claims_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """One row per claim; `effect`, its 95 % interval `low` to `high` and `margin` are fractions."""
    rows = [
        (
            *(claim.name, claim.statement, claim.verdict),
            *(claim.effect.mean, claim.effect.low, claim.effect.high, claim.effect.p_value, claim.adjusted_p),
            *(claim.margin, claim.seeds, claim.why),
        )
        for claim in claims
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def claim_data_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """The rows behind all claims; the column `claim` names the claim (see `analysis.compute.claims.Claim.data`)."""
    tables = [claim.data.assign(claim=claim.name) for claim in claims if len(claim.data)]
    if not tables:
        return claims[0].data.assign(claim="")
    table = pd.concat(tables, ignore_index=True)
    return table[["claim", *(column for column in table if column != "claim")]]


def written_claims(claims: Sequence[Claim]) -> TextTable:
    """One row per claim: verdict, effect and interval in %, corrected p, seeds, why."""
    effects = [claim.effect for claim in claims]
    columns: dict[str, list[str]] = {
        "claim": [claim.statement for claim in claims],
        "verdict": [claim.verdict for claim in claims],
        "effect [%]": [_percent(effect.mean) for effect in effects],
        "95 % interval [%]": [
            f"{_percent(effect.low)} to {_percent(effect.high)}" if effect.number > 1 else "" for effect in effects
        ],
        "p": cells([claim.adjusted_p for claim in claims], "{:.2g}".format),
        "seeds": [str(claim.seeds) for claim in claims],
        "why": [claim.why for claim in claims],
    }
    how = " ".join(f"{claim.statement} {claim.how}" for claim in claims)
    note = (
        f"{how} Intervals are Student's, over seeds. p is two-sided, Holm-corrected over the claims; a claim holds, or "
        f"does not, where it is at most {SIGNIFICANCE:g}."
    )
    return TextTable.of(columns, note, [claim.verdict == "holds" for claim in claims])


def _percent(value: float) -> str:
    return text.percent(value, signed=True)
