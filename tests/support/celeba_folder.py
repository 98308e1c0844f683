"""CelebA in small: eight aligned images of one grey each, with known labels and points."""

from pathlib import Path

from PIL import Image

from mtl.datasets.celeba.dataset import COLUMNS, IMAGES, LABELS, LANDMARKS, PARTITION
from mtl.datasets.celebamask_hq.attributes import ATTRIBUTES

SIZE = (218, 178)
PARTITIONS = {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 1, 7: 2, 8: 2}


def label(k: int, attribute: str) -> int:
    """-1 or 1."""
    return 1 if (7 * k + 3 * ATTRIBUTES.index(attribute)) % 5 < 2 else -1


def point(k: int, column: str) -> int:
    """In pixels."""
    return 60 + 8 * COLUMNS.index(column) + k


def write_celeba(root: Path, folders: tuple[str, str, str] = ("", "", "")) -> Path:
    """folders: where the images, the lists of labels and the partition go, such as Img/, Anno/ and Eval/."""
    images, annotations, partition = (root / folder for folder in folders)
    for folder in (images / IMAGES, annotations, partition):
        folder.mkdir(parents=True, exist_ok=True)
    names = {k: f"{k:06d}.jpg" for k in PARTITIONS}
    for k, name in names.items():
        Image.new("RGB", SIZE[::-1], (20 * k,) * 3).save(images / IMAGES / name)
    rows = [f"{name}  {'  '.join(str(label(k, attribute)) for attribute in ATTRIBUTES)}" for k, name in names.items()]
    (annotations / LABELS).write_text("\n".join([str(len(rows)), " ".join(ATTRIBUTES), *rows]) + "\n")
    rows = [f"{name}    {'  '.join(str(point(k, column)) for column in COLUMNS)}" for k, name in names.items()]
    (annotations / LANDMARKS).write_text("\n".join([str(len(rows)), " ".join(COLUMNS), *rows]) + "\n")
    rows = [f"{names[k]} {part}" for k, part in PARTITIONS.items()]
    (partition / PARTITION).write_text("\n".join(rows) + "\n")
    return root
