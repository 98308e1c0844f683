"""The published split of NYU-Depth-v2: 795 frames train and 654 test in each layout, and nothing else passes for it."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from mtl.datasets.base import Split
from mtl.datasets.inspect.inspection import inspect_dataset
from mtl.datasets.nyuv2.layouts import open_nyuv2
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from search.cli import main
from tests.support.nyuv2_folders import write_nyud_mt, write_official

TRAIN, TEST = 795, 654
SIZES: dict[Split, int] = {"train": TRAIN, "val": 155, "test": TEST}


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official file in its full length, with frames of a few pixels and a split that is made up."""
    root = tmp_path_factory.mktemp("nyu") / "official"
    write_official(root, train=TRAIN, test=TEST, size=(3, 4))
    numbers = np.random.default_rng(0).permutation(TRAIN + TEST).astype(np.uint16)[:, np.newaxis] + 1
    savemat(root / "splits.mat", {"trainNdxs": numbers[:TRAIN], "testNdxs": numbers[TRAIN:]})
    return root


def test_all_published_training_frames_train_and_the_same_frames_test(official: Path) -> None:
    held_out = load_dataset("nyuv2", official)
    published = load_dataset("nyuv2", official, {"split": "published"})
    assert {split: held_out.size(split) for split in SIZES} == {**SIZES, "train": TRAIN - 155}
    assert {split: published.size(split) for split in SIZES} == SIZES
    before, after = open_nyuv2(official).ids, open_nyuv2(official, split="published").ids
    assert after["test"] == before["test"]
    assert after["val"] == before["val"]
    assert {*after["train"]} == {*before["train"], *before["val"]}
    assert not {*after["train"]} & {*after["test"]}
    assert held_out.fingerprint() == load_dataset("nyuv2", official, {"split": "held_out"}).fingerprint()
    assert published.fingerprint() != held_out.fingerprint()


def test_what_validates_on_trained_frames_says_so_and_only_it_may(official: Path) -> None:
    found = inspect_dataset(open_nyuv2(official, split="published"), processes=1)
    assert found.problems == ()
    assert not [line for line in found.warnings if "two splits" in line]
    note = "all 795 published training frames train; the 155 that validate are among them: choose nothing by these"
    assert found.dataset.notes[-1] == note
    held_out = open_nyuv2(official)
    held_out.ids = open_nyuv2(official, split="published").ids
    assert len(held_out.problems) == 155
    leaky = open_nyuv2(official, split="published")
    leaky.ids = {**leaky.ids, "test": leaky.ids["train"][:2]}
    assert len(leaky.problems) == 2


def test_a_sweep_on_it_says_what_may_not_be_chosen(
    official: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "nyuv2-small", "--data", str(official), "--dry-run"]
    assert main(command) == 0
    assert capsys.readouterr().err.startswith("49 trials: 0 done, ")
    assert main([*command, "--set", "dataset_options.split=published"]) == 0
    said = "dataset nyuv2: validates on images that it trains on; choose no model by val_… or delta_m\n"
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("own_validation", [False, True])
def test_lists_of_nyud_mt(tmp_path: Path, own_validation: bool) -> None:
    ids = [f"{k:04d}" for k in range(1, TRAIN + TEST + 1)]
    train, test = ids[:TRAIN], ids[TRAIN:]
    lists = (
        {"train": train[:700], "val": train[700:], "test": test} if own_validation else {"train": train, "val": test}
    )
    for folder in ("images", "segmentation", "depth", "normals", "gt_sets"):
        (tmp_path / folder).mkdir()
    for name, words in lists.items():
        (tmp_path / "gt_sets" / f"{name}.txt").write_text("\n".join(words))
    found = open_nyuv2(tmp_path, split="published").ids
    assert sorted(found["train"]) == train
    assert {*found["val"]} < {*found["train"]}
    assert len(found["val"]) == (95 if own_validation else 155)
    assert found["test"] == test


def test_folders_of_mtan(tmp_path: Path) -> None:
    for part, count in (("train", TRAIN), ("val", TEST)):
        for folder in ("image", "depth"):
            (tmp_path / part / folder).mkdir(parents=True)
        for k in range(count):
            (tmp_path / part / "image" / f"{k}.npy").touch()
    found = open_nyuv2(tmp_path, split="published").ids
    assert {split: len(found[split]) for split in SIZES} == SIZES


def test_other_frames_do_not_pass_for_it(tmp_path: Path) -> None:
    write_official(tmp_path / "small", size=(3, 4))
    with pytest.raises(BadInput) as caught:
        open_nyuv2(tmp_path / "small", split="published")
    assert str(caught.value) == (
        f"dataset_options.split: published, but file {tmp_path}/small/splits.mat: trainNdxs leads to 66 frames to "
        "train on and 2 to test on; allowed: 795 and 654, or split = held_out"
    )
    write_nyud_mt(tmp_path / "mt", {"train": ["1", "2"], "val": ["3"], "test": ["4"]})
    with pytest.raises(BadInput, match=r"gt_sets/train\.txt leads to 3 frames to train on and 1 to test on"):
        open_nyuv2(tmp_path / "mt", split="published")
    with pytest.raises(BadInput, match=r"^dataset_options\.split: 'offical'; allowed: held_out, published$"):
        load_dataset("nyuv2", tmp_path / "small", {"split": "offical"})


def test_a_missing_split_file_is_named_with_its_address(tmp_path: Path) -> None:
    write_official(tmp_path / "nyu", size=(3, 4))
    (tmp_path / "nyu" / "splits.mat").unlink()
    with pytest.raises(
        BadInput, match=r"splits\.mat: is missing; it lists the splits of .* published at http://horatio"
    ):
        open_nyuv2(tmp_path / "nyu", split="published")
