"""Tables 1, 2 and 3 of arXiv 2308.12114 from a sweep, beside the published numbers."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables.

    Attributes:
        number: 1, 2 or 3.
        title: what it is of.
        numbers: `source` ("ours", "published" or "constant predictor"), `tasks`, `penalty`, `lambda` (NaN where not
            printed), `seeds`, and `<column>_mean`, `<column>_std` for each metric (test split), `group_sparsity` and
            `parameter_sparsity` (fractions).
        comparable: whether the sweep was measured as the published numbers were.
        note: where the published numbers are from, and under which protocol ours compare with them.
    """

    number: int
    title: str
    numbers: pd.DataFrame
    comparable: bool
    note: str
