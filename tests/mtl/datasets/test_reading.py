"""Reading damaged and unusual files."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mtl.datasets.reading import read_image, read_mask, read_npy
from mtl.errors import BadInput

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
COLOURS = np.stack([GREY, GREY + 50, GREY + 100], axis=-1)


def save(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def indexed(indices: NDArray[np.uint8], palette: list[int]) -> Image.Image:
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(palette)
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(COLOURS), COLOURS),
        (Image.fromarray(np.dstack([COLOURS, GREY])), COLOURS),
        (Image.fromarray(GREY), np.dstack([GREY] * 3)),
        (Image.fromarray(GREY > 5), np.dstack([(GREY > 5) * np.uint8(255)] * 3)),
        (indexed(GREY % 2, [10, 20, 30, 40, 50, 60]), np.where(GREY[..., None] % 2, [40, 50, 60], [10, 20, 30])),
    ],
    ids=["colours", "transparency", "grey", "black and white", "indexed"],
)
def test_images_are_rgb(tmp_path: Path, image: Image.Image, expected: NDArray) -> None:
    found = read_image(save(tmp_path / "x.png", image))
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(np.dstack([GREY] * 3)), GREY),
        (Image.fromarray(np.dstack([GREY, GREY, GREY, GREY[::-1]])), GREY),
        (Image.fromarray(GREY > 5), GREY > 5),
        (indexed(GREY % 2, [10, 20, 30, 40, 50, 60]), GREY % 2),
    ],
    ids=["grey", "grey in colours", "transparency", "black and white", "indexed"],
)
def test_masks_are_values_as_stored(tmp_path: Path, image: Image.Image, expected: NDArray) -> None:
    found = read_mask(save(tmp_path / "x.png", image))
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_mask_in_colours_is_refused(tmp_path: Path, channel: int) -> None:
    colours = np.dstack([GREY] * 3)
    colours[1, 2, channel] += 1
    with pytest.raises(BadInput, match=r"^file .*x\.png: holds colours; allowed for a mask: grey, or indexed colours$"):
        read_mask(save(tmp_path / "x.png", Image.fromarray(colours)))


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_sixteen_bits_are_refused_and_not_cut_off(tmp_path: Path, read: Callable[[Path], NDArray]) -> None:
    path = save(tmp_path / "x.png", Image.fromarray(np.full((3, 4), 1000, np.uint16)))
    with pytest.raises(BadInput, match=r"^file .*x\.png: holds \w+ \(3, 4\); allowed: .*8 bits"):
        read(path)


def test_npy(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    assert np.array_equal(read_npy(tmp_path / "x.npy"), array)


class Trap:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    np.save(tmp_path / "objects.npy", np.array([trap], object), allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(trap))
    for name in ("objects.npy", "plain.npy"):
        with pytest.raises(BadInput, match=rf"^file .*{name}: cannot be read as \.npy"):
            read_npy(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)


def write_noise(path: Path) -> Path:
    if path.suffix == ".npy":
        np.save(path, NOISE)
    else:
        Image.fromarray(NOISE if path.suffix == ".jpg" else NOISE[..., 0]).save(path)
    return path


READERS = {"x.jpg": read_image, "x.png": read_mask, "x.npy": read_npy}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_truncated_file_is_named(tmp_path: Path, name: str, share: float) -> None:
    path = write_noise(tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match=rf"^file .*{name}: cannot be read as [^\n]+$"):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir], ids=["missing", "folder"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    make(tmp_path / name)
    with pytest.raises(BadInput, match=rf"^file .*{name}: cannot be read as [^\n]+ \((No such file|Is a dir)[^/]+\)$"):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_read_or_refused(tmp_path: Path, name: str) -> None:
    """Nothing but BadInput comes out, whatever bytes are changed."""
    path = write_noise(tmp_path / name)
    content = path.read_bytes()
    rng = random.Random(0)
    messages = []
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 2, 8])):
            damaged[rng.randrange(min(len(content), rng.choice([128, 10_000])))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            READERS[name](path)
        except BadInput as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)
