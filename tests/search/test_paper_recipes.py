"""The paper's own recipes, whole: one epoch of ResNet-50 at 256 x 256 on two training images of each published set."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from search.cli import main

ONE_EPOCH = ["epochs=1", "seeds=1", "lambdas=1e-4", "gpus_per_trial=0", "cpus_per_trial=1"]


def write_nyuv2(root: Path) -> Path:
    """Two frames to train on, one to validate on and one to test on, in the NYUD_MT layout."""
    rng = np.random.default_rng(0)
    size = (48, 64)
    for folder in ("images", "segmentation", "depth", "normals", "gt_sets"):
        (root / folder).mkdir(parents=True)
    for name in ("0001", "0002", "0003", "0004"):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / "images" / f"{name}.jpg")
        Image.fromarray(rng.integers(0, 41, size, np.uint8)).save(root / "segmentation" / f"{name}.png")
        np.save(root / "depth" / f"{name}.npy", rng.uniform(1, 9, size).astype(np.float32))
        np.save(root / "normals" / f"{name}.npy", np.broadcast_to(np.float32([0, 0, 1]), (*size, 3)))
    for split, names in {"train": "0001\n0002\n", "val": "0003\n", "test": "0004\n"}.items():
        (root / "gt_sets" / f"{split}.txt").write_text(names)
    return root


def write_celebamask_hq(root: Path) -> Path:
    """Four images and a list that gives two of them to training."""
    rng = np.random.default_rng(0)
    (root / "CelebA-HQ-img").mkdir(parents=True)
    (root / "CelebAMask-HQ-mask-anno" / "0").mkdir(parents=True)
    lines = ["4", "Male Smiling"]
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / "CelebA-HQ-img" / f"{k}.jpg")
        for part, rows in (("skin", slice(10, 30)), ("hair", slice(0, 10))):
            mask = np.zeros((32, 32), np.uint8)
            mask[rows] = 255
            Image.fromarray(mask).save(root / "CelebAMask-HQ-mask-anno" / "0" / f"{k:05d}_{part}.png")
        lines.append(f"{k}.jpg  {1 - 2 * (k % 2)} {1 - 2 * (k // 2)}")
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join(lines) + "\n")
    (root / "split.txt").write_text("0 train\n1 train\n2 val\n3 test\n")
    return root


@pytest.mark.parametrize(
    ("recipe", "write", "tasks", "options", "metrics"),
    [
        (
            "nyuv2",
            write_nyuv2,
            "segmentation+normals+depth",
            [],
            ["segmentation_iou_micro", "normals_cos", "depth_mae"],
        ),
        (
            "celebamask-hq",
            write_celebamask_hq,
            "segmentation+male+smile",
            ["dataset_options.split_file=split.txt"],
            ["segmentation_iou_micro", "male_accuracy", "smile_accuracy"],
        ),
    ],
)
def test_one_epoch_of_two_images(recipe, write, tasks, options, metrics, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = write(tmp_path / "data")
    settings = [*ONE_EPOCH, f"combinations={tasks}", *options]
    overrides = [word for setting in settings for word in ("--set", setting)]
    assert main(["train", recipe, "--data", str(data), "--storage", str(tmp_path), "--name", "one", *overrides]) == 0
    (row,) = pd.read_parquet(tmp_path / "one" / "results.parquet").to_dict("records")
    assert (row["status"], row["epochs_run"], row["tasks"]) == ("done", 1, tasks)
    for split in ("val", "test"):
        for metric in metrics:
            assert np.isfinite(row[f"{split}_{metric}"])
