"""PASCAL_MT in small: twelve images, the annotations known in numbers."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (20, 30)
TRAIN, TEST = [f"2008_{k:06d}" for k in range(11)], ["2010_000001", "2010_000002"]
SKY, WALL = 360, 440  # no normals, and normals


def write_parts(path: Path, people: list[dict[str, np.ndarray]]) -> None:
    """An annotation as PASCAL-Part's: people with the masks of their parts, and a dog with a tail beside them."""
    fields = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
    everyone: list[tuple[str, int, dict[str, np.ndarray]]] = [("person", 15, parts) for parts in people]
    everyone.append(("dog", 12, {"tail": np.ones(SIZE, np.uint8)}))
    objects = np.empty((1, len(everyone)), dtype=fields)
    for k, (name, index, parts) in enumerate(everyone):
        each: Any = np.empty((1, len(parts)), dtype=[("part_name", object), ("mask", object)]) if parts else []
        for place, (part, mask) in enumerate(parts.items()):
            each[0, place] = (part, mask.astype(np.uint8))
        objects[0, k] = (name, index, np.ones(SIZE, np.uint8), each)
    savemat(path, {"anno": {"imname": path.stem, "objects": objects}})


def rows(first: int, last: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[first:last] = 1
    return mask


def write_pascal_context(root: Path) -> Path:
    """Context: sky in the columns 0..9, wall in the others. VOC: all aeroplane but a column unlabelled; the second
    image has none and its classes by PASCAL-Context, all bicycle. People: torso in the rows 0..9, left hand in 8..11, a
    second person's head in 9; none in the second image, one without parts in the third. Salient: rows 0..4."""
    for folder in ("JPEGImages", "semseg/VOC12", "semseg/pascal-context", "human_parts", "normals_distill"):
        (root / folder).mkdir(parents=True)
    for folder in ("sal_distill", "pascal-context/trainval", "ImageSets/Context"):
        (root / folder).mkdir(parents=True)
    context = np.full(SIZE, WALL, np.uint16)
    context[:, :10] = SKY
    classes = np.ones(SIZE, np.uint8)
    classes[:, 3] = 255
    normals = np.full((*SIZE, 3), 128, np.uint8)
    normals[..., 2] = 255
    for k, name in enumerate([*TRAIN, *TEST]):
        pixels = np.random.default_rng(k).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.jpg")
        if k == 1:
            Image.fromarray(np.full(SIZE, 2, np.uint8)).save(root / "semseg/pascal-context" / f"{name}.png")
        else:
            Image.fromarray(classes).save(root / "semseg/VOC12" / f"{name}.png")
        people: list[dict[str, np.ndarray]] = [{"torso": rows(0, 10), "lhand": rows(8, 12)}, {"head": rows(9, 10)}]
        write_parts(root / "human_parts" / f"{name}.mat", [] if k == 1 else [{}] if k == 2 else people)
        Image.fromarray(normals).save(root / "normals_distill" / f"{name}.png")
        Image.fromarray(255 * rows(0, 5)).save(root / "sal_distill" / f"{name}.png")
        savemat(root / "pascal-context/trainval" / f"{name}.mat", {"LabelMap": context})
    (root / "ImageSets/Context/train.txt").write_text("\n".join(TRAIN) + "\n")
    (root / "ImageSets/Context/val.txt").write_text("\n".join(TEST) + "\n")
    return root
