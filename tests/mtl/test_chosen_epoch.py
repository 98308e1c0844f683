"""Which epoch a trial's model is of: by metrics and not by losses, and of the sparsity that the trial ends with."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mtl.chosen_epoch import SETTLED, takes_over, validation_score
from mtl.errors import BadInput
from mtl.training import Training, set_deterministic
from mtl.vocabulary.files import HISTORY, RESULTS
from search.cli import main
from search.recipe_file import load_recipe, recipe_names
from tests.support.in_process import without_ray, words
from tests.support.small import TASKS, arrays, config

SEGMENTATION, DEPTH = TASKS[:2]


def row(miou: float, mae: float, loss: float = 1.0, groups: float = 0.0, weights: float = 0.0) -> dict[str, float]:
    metrics = {"val_segmentation_miou": miou, "val_depth_mae": mae}
    losses = {"val_segmentation_loss": loss, "val_depth_loss": loss}
    return metrics | losses | {"group_sparsity": groups, "parameter_sparsity": weights}


def better(one: dict[str, float], other: dict[str, float]) -> float:
    return validation_score([SEGMENTATION, DEPTH], one) - validation_score([SEGMENTATION, DEPTH], other)


def test_the_score_is_the_mean_relative_change_whatever_the_units() -> None:
    assert better(row(0.202, 0.5), row(0.2, 0.5)) == pytest.approx(0.01 / 2, rel=0.01)
    assert better(row(0.2, 0.495), row(0.2, 0.5)) == pytest.approx(0.01 / 2, rel=0.01)
    # 10 % better at one task and 5 % worse at the other, in metres and in millimetres
    assert better(row(0.22, 0.525), row(0.2, 0.5)) > 0
    assert better(row(0.22, 525), row(0.2, 500)) == pytest.approx(better(row(0.22, 0.525), row(0.2, 0.5)))


def test_the_score_of_numbers_that_have_no_logarithm_or_are_none() -> None:
    assert better(row(0.2, 0.5, loss=9.0), row(0.1, 0.5, loss=0.1)) > 0, "losses decide nothing"
    for loss in (math.nan, math.inf):
        assert validation_score([SEGMENTATION, DEPTH], row(0.2, 0.5, loss=loss)) == -math.inf
    # of a task without a label in the split the others decide
    assert better(row(math.nan, 0.4), row(math.nan, 0.5)) > 0
    assert better(row(math.nan, math.nan), row(math.nan, math.nan)) == 0
    # a cosine may be negative, and an error or an IoU 0
    assert better(row(0.0, 0.4), row(-0.1, 0.5)) > 0
    assert math.isfinite(validation_score([SEGMENTATION, DEPTH], row(0.0, 0.0)))


def chosen(rows: list[dict[str, float]]) -> int:
    best = -1
    for place, one in enumerate(rows):
        if takes_over([SEGMENTATION, DEPTH], one, rows[best] if best >= 0 else None):
            best = place
    return best


def test_of_a_sparsity_that_has_settled_the_best_and_of_one_that_moves_none_before() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        ends, at = rng.uniform(0, 0.9), int(rng.integers(1, 20))
        curve = ends * np.minimum(1, np.arange(30) / at) + rng.uniform(0, SETTLED / 4, 30)
        scores = rng.uniform(0.1, 0.5, 30)
        dense = [row(score, 0.5) for score in scores]
        assert chosen(dense) == int(scores.argmax())
        for kind in ("group_sparsity", "parameter_sparsity"):  # the second of which alone an l1 penalty moves
            rows = [one | {kind: share} for one, share in zip(dense, curve, strict=True)]
            best = chosen(rows)
            assert abs(rows[best][kind] - rows[-1][kind]) <= SETTLED
            assert scores[best] >= scores[max(at, best) :].max()


def test_an_epoch_that_diverged_is_never_chosen() -> None:
    lost = row(0.9, 0.1, loss=math.nan, groups=1.0)
    assert chosen([lost, lost]) == -1
    assert chosen([lost, row(0.2, 0.5), lost]) == 1


def test_a_trial_goes_on_while_its_sparsity_rises_and_its_model_is_of_where_that_ends() -> None:
    """The validation is at its best in the first epoch, when a third of the groups is gone of the four fifths later."""
    set_deterministic()
    settings = config(epochs=60, lr=1e-3, strength=0.1, lr_schedule="constant", patience=3)
    training = Training(settings, TASKS, arrays(), torch.device("cpu"))
    while not training.done:
        training.run_epoch()
    shares = [one["group_sparsity"] for one in training.history]
    assert 10 < training.epochs_run < 60
    assert shares[0] < 0.5 * shares[-1]
    assert abs(shares[training.best_epoch] - shares[-1]) <= SETTLED
    assert training.epochs_run - 1 - training.best_epoch == settings.patience
    found = training.test()
    assert found["last_group_sparsity"] == shares[-1]
    assert found["group_sparsity"] == shares[training.best_epoch]


def test_a_sweep_writes_the_last_epochs_sparsity_beside_the_chosen_ones(tmp_path: Path) -> None:
    with without_ray():
        assert main(words("sweep", tmp_path, sets=("epochs=4", "lambdas=0,0.1", "lr_schedule=constant"))) == 0
    results, history = (pd.read_parquet(tmp_path / "rooms" / name) for name in (RESULTS, HISTORY))
    last = history.sort_values("epoch").groupby("trial_id")["group_sparsity"].last()
    assert results["last_group_sparsity"].tolist() == last[results["trial_id"]].tolist()
    assert (results["last_group_sparsity"] > 0).sum() == 1
    assert ((results["last_group_sparsity"] - results["group_sparsity"]).abs() <= SETTLED).all()


@pytest.mark.parametrize("field", ["lr_schedule=one_cycle", "search_space.lr_schedule=one_cycle,constant"])
def test_a_schedule_that_patience_would_cut_is_refused(field: str) -> None:
    with pytest.raises(BadInput, match=r"patience = 10 with lr_schedule one_cycle; allowed: patience = 0, .*constant"):
        load_recipe("nyuv2", [field])
    assert load_recipe("nyuv2", ["patience=0", field]).patience == 0
    assert recipe_names() == [name for name in recipe_names() if load_recipe(name)]
