"""Folders of the datasets that docs/own-data.md shows: 30 leaves whose blades are bright, and lanes in 12 frames."""

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


def write_lanes(data: Path) -> None:
    """Six scenes of two frames, each with one lane's edge and a speed."""
    rng = np.random.default_rng(0)
    for folder in ("images", "edges"):
        (data / folder).mkdir(parents=True)
    with (data / "speed.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "kmh"])
        for scene in range(6):
            for frame in range(2):
                name = f"scene{scene}_{frame}"
                edges = np.zeros((32, 48), np.uint8)
                edges[:, 10 + scene : 12 + scene] = 255
                image = rng.integers(0, 256, (32, 48, 3), np.uint8)
                Image.fromarray(image).save(data / "images" / f"{name}.png")
                Image.fromarray(edges).save(data / "edges" / f"{name}.png")
                table.writerow([name, 30 + scene])
