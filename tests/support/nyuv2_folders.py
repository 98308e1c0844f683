"""NYU-Depth-v2 in small: random frames, written in each of its published layouts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

from mtl.datasets.nyuv2.classes import FORTY, NAMED_RAW_IDS, RAW_IDS

SIZE = (24, 32)
# The fewest training frames of which a block of 16 can be held out, and two more.
TRAIN, TEST = 66, 2


@dataclass(frozen=True)
class Frame:
    """image (H, W, 3) uint8; labels (H, W), 0 none and 1..40; depth (H, W) metres; normals (H, W, 3) unit."""

    image: np.ndarray
    labels: np.ndarray
    depth: np.ndarray
    normals: np.ndarray


def random_frame(seed: int, labels: int = 40, size: tuple[int, int] = SIZE) -> Frame:
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(*size, 3))
    return Frame(
        rng.integers(0, 256, (*size, 3), np.uint8),
        rng.integers(0, labels + 1, size, np.uint8),
        rng.uniform(0.5, 10, size).astype(np.float32),
        (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32),
    )


def write_nyud_mt(root: Path, lists: Mapping[str, Sequence[str]]) -> dict[str, Frame]:
    """Frames by id; labels, depth and normals that mark what has none are in the first row, and stored as such."""
    for folder in ("images", "segmentation", "depth", "normals", "edge", "gt_sets"):
        (root / folder).mkdir(parents=True)
    for split, ids in lists.items():
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(ids) + "\n")
    frames = {sample_id: random_frame(int(sample_id)) for ids in lists.values() for sample_id in ids}
    for sample_id, frame in frames.items():
        frame.labels[0, :3] = 0, 40, 255
        frame.depth[0, :4] = np.nan, np.inf, -1, 0
        frame.normals[0, :3] = [np.nan, 0, 1], [np.inf, 0, 0], [0, 0, 0]
        Image.fromarray(frame.image).save(root / "images" / f"{sample_id}.png")
        Image.fromarray(frame.labels).save(root / "segmentation" / f"{sample_id}.png")
        np.save(root / "depth" / f"{sample_id}.npy", frame.depth)
        np.save(root / "normals" / f"{sample_id}.npy", frame.normals)
    return frames


def write_mtan(root: Path, labels: int = 40, label_type: type = np.int64) -> dict[str, Frame]:
    """Frames by PART/K, with labels 1..40, or 1..13 for 13 classes, that are stored less one."""
    frames = {}
    for part, count, first in (("train", TRAIN, 0), ("val", TEST, 1000)):
        for folder in ("image", "label", "depth", "normal"):
            (root / part / folder).mkdir(parents=True)
        for k in range(count):
            frame = frames[f"{part}/{k}"] = random_frame(first + k, labels)
            np.save(root / part / "image" / f"{k}.npy", (frame.image / 255).astype(np.float32))
            np.save(root / part / "label" / f"{k}.npy", frame.labels.astype(label_type) - 1)
            np.save(root / part / "depth" / f"{k}.npy", frame.depth[..., np.newaxis])
            np.save(root / part / "normal" / f"{k}.npy", frame.normals)
    return frames


def raw_names() -> list[str]:
    """Of raw ids 1..894; those that are classes have their published names, the others any."""
    names = [f"thing {raw}" for raw in range(1, RAW_IDS + 1)]
    for raw, name in zip(NAMED_RAW_IDS, FORTY, strict=False):
        names[raw - 1] = "refridgerator" if name == "refrigerator" else name
    return names


def write_official(
    root: Path,
    names: Sequence[str] | None = None,
    train: int = TRAIN,
    test: int = TEST,
    size: tuple[int, int] = SIZE,
) -> dict[str, Frame]:
    """Frames by id, with raw labels 0..894 in `labels`; the first ones train and the last ones test."""
    root.mkdir()
    count = train + test
    frames = {f"{k + 1:04d}": random_frame(k, size=size) for k in range(count)}
    raw = np.random.default_rng(0).integers(0, RAW_IDS + 1, (count, *size), np.uint16)
    frames = {i: Frame(f.image, labels, f.depth, f.normals) for (i, f), labels in zip(frames.items(), raw, strict=True)}
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        # MATLAB writes the last axis first.
        for name, values in (
            ("images", np.stack([f.image.transpose(2, 1, 0) for f in frames.values()])),
            ("depths", np.stack([f.depth.T for f in frames.values()])),
            ("labels", np.stack([f.labels.T for f in frames.values()])),
        ):
            file.create_dataset(name, data=values, chunks=(1, *values.shape[1:]), compression="gzip")
        texts = file.create_group("#refs#")
        references = [
            texts.create_dataset(str(k), data=np.array([[ord(letter)] for letter in name], np.uint16)).ref
            for k, name in enumerate(raw_names() if names is None else names)
        ]
        cells = np.array([references], dtype=h5py.ref_dtype)
        file.create_dataset("names", data=cells, dtype=h5py.ref_dtype)
    numbers = np.arange(1, count + 1, dtype=np.uint16)[:, np.newaxis]
    savemat(root / "splits.mat", {"trainNdxs": numbers[:train], "testNdxs": numbers[train:]})
    return frames
