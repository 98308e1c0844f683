"""A folder of the dataset that docs/own-data.md shows: 30 images in which blades are bright."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SPECIES = ("oak", "beech", "maple")


def write_leaves(data: Path) -> None:
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    rng = np.random.default_rng(0)
    with (data / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "species", "split"])
        for k in range(30):
            mask = np.zeros((40, 56), np.uint8)
            mask[8:32, 4 + k % 10 : 40] = 1
            mask[12:20, 20:28] = 2
            image = np.clip(60 * mask[..., None] + rng.integers(0, 60, (40, 56, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(data / "images" / f"leaf{k}.jpg")
            Image.fromarray(mask).save(data / "masks" / f"leaf{k}.png")
            table.writerow([f"leaf{k}", SPECIES[k % 3], ("train", "train", "train", "val", "test")[k % 5]])
