"""The constant predictor beside the best that any model reached: what a model that ignores the image gets."""

import pandas as pd

from analysis.read.load import Sweep

COLUMNS = ["metric", "label", "unit", "maximize", "constant", "best", "best_tasks", "best_lambda", "beaten"]


def constant_table(sweep: Sweep, settings: pd.DataFrame) -> pd.DataFrame:
    """One row per metric that the constant predictor is known for, on the test split.

    Columns: `metric`, `label`, `unit`, `maximize`, `constant`; `best`, the best mean over seeds of any setting, with
    its `best_tasks` and `best_lambda`; `beaten`, whether that is better. Best is chosen on test: it is a bound, no
    recommendation.
    """
    rows = []
    for name, constant in sweep.constant_predictor.items():
        metric, column = sweep.metrics.get(name), f"test_{name}_mean"
        if metric and column in settings and settings[column].notna().any():
            best = settings.iloc[int((settings[column] if metric.maximize else -settings[column]).argmax())]
            beaten = best[column] > constant if metric.maximize else best[column] < constant
            about = (name, metric.label, metric.unit, metric.maximize, float(constant))
            rows.append((*about, float(best[column]), best["tasks"], best["lambda"], bool(beaten)))
    return pd.DataFrame(rows, columns=COLUMNS)
