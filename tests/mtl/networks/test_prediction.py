"""Photos of all kinds in, and maps, pictures and arrays out: each at the photo's own size and in its own units."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtl.datasets.inspect.panels import class_key, fixed_class_key
from mtl.errors import BadInput
from mtl.networks import photos
from mtl.networks.photos import read_photo
from mtl.networks.prediction import full_size
from mtl.networks.prediction_arrays import about_arrays, arrays_of, write_arrays
from mtl.networks.prediction_pictures import attributes_picture, legend_of, map_picture, overlay_colors
from mtl.objectives.losses import enlarge, enlarged_rows
from mtl.tasks import Task
from tests.support.small import TASKS

SEGMENTATION = TASKS[0]


def photo(mode: str = "RGB") -> Image.Image:
    """Red on the left, green on the right."""
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 255, 0), (20, 0, 40, 20))
    return image.convert(mode)


def test_a_photo_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    photo().save(tmp_path / "turned.png", exif=exif)
    pixels = read_photo(tmp_path / "turned.png")
    assert pixels.shape == (40, 20, 3)
    assert pixels[5, 10].tolist() == [255, 0, 0]
    assert pixels[35, 10].tolist() == [0, 255, 0]


@pytest.mark.parametrize(("mode", "suffix"), [("P", "gif"), ("RGBA", "png"), ("CMYK", "tiff"), ("RGB", "bmp")])
def test_colours_are_the_same_in_every_mode(mode: str, suffix: str, tmp_path: Path) -> None:
    photo(mode).save(tmp_path / f"photo.{suffix}")
    pixels = read_photo(tmp_path / f"photo.{suffix}")
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(int), np.asarray(photo()), atol=2)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_of_16_bits_is_scaled(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert read_photo(tmp_path / f"deep.{suffix}")[0, :, 1].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (2, 2), (0, 255)).save(tmp_path / "black.png")
    assert (read_photo(tmp_path / "clear.png") == 255).all()
    assert (read_photo(tmp_path / "black.png") == 0).all()


def test_photos_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("F", (4, 4)).save(tmp_path / "float.tiff")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(BadInput, match=r"float.tiff: holds float32 of any size; allowed: 8 or 16 bits a channel"):
        read_photo(tmp_path / "float.tiff")
    with pytest.raises(BadInput, match=r"bomb.png: is far too large; allowed: at most 67 million"):
        read_photo(tmp_path / "bomb.png")
    monkeypatch.setattr(photos, "MOST_PIXELS", 799)
    photo().save(tmp_path / "large.png")
    with pytest.raises(BadInput, match=r"large.png: has 40 x 20 pixels; allowed: "):
        read_photo(tmp_path / "large.png")


@pytest.mark.parametrize("numbers", [1, 100, 10**6])
def test_enlarging_by_rows_is_enlarging(numbers: int) -> None:
    x = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    whole = torch.zeros(1, 3, 33, 41)
    for rows, part in enlarged_rows(x, (33, 41), numbers):
        assert part.numel() <= max(numbers, 3 * 41)
        whole[:, :, rows] = part
    torch.testing.assert_close(whole, enlarge(x, (33, 41)))


def test_maps_are_of_torchs_bilinear_interpolation() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = {task.name: torch.randn(1, task.channels, 4, 6, generator=generator) for task in TASKS[:3]}
    maps = full_size(outputs, TASKS[:3], (50, 71)).maps
    large = {name: torch.nn.functional.interpolate(x, (50, 71), mode="bilinear")[0] for name, x in outputs.items()}
    best = large["segmentation"].topk(2, dim=0)
    clear = (best.values[0] - best.values[1] > 1e-4).numpy()
    assert (maps["segmentation"] == best.indices[0].numpy())[clear].all()
    assert clear.mean() > 0.99
    np.testing.assert_allclose(maps["depth"], large["depth"][0], atol=1e-5)
    normals = torch.nn.functional.normalize(large["normals"], dim=0).permute(1, 2, 0)
    np.testing.assert_allclose(maps["normals"], normals, atol=1e-4)


def test_arrays_are_read_without_pickle_and_say_what_they_are(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {task.name: (1, task.channels, 2, 3) if task.dense else (1, task.channels) for task in TASKS}
    outputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    prediction = full_size(outputs, TASKS, (20, 30))
    about = about_arrays(TASKS, {"photo": "ä.png"}, "m", True)
    write_arrays(tmp_path / "x.npz", arrays_of(TASKS, prediction), about)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as read:
        told = json.loads(read["about.json"])
        arrays = {task.name: read[task.name] for task in TASKS}
    assert told["photo"] == "ä.png"
    assert told["tasks"]["segmentation"]["classes"] == list("abcdef")
    assert told["tasks"]["depth"] == {"kind": "depth", "unit": "m"}
    assert told["tasks"]["normals"]["axes"] == "x to the right, y up, z to the viewer"
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "segmentation": ("uint8", (20, 30)),
        "depth": ("float32", (20, 30)),
        "normals": ("float32", (20, 30, 3)),
        "light": ("float32", (3,)),
        "male": ("float32", ()),
    }
    np.testing.assert_allclose(np.linalg.norm(arrays["normals"], axis=-1), 1, atol=1e-6)
    assert arrays["light"].sum() == pytest.approx(1)
    assert (arrays["segmentation"] == prediction.maps["segmentation"]).all()


def test_a_class_has_one_colour_on_contact_sheets_and_predictions() -> None:
    target = np.array([[4, 4, 1]], np.uint8)
    sheet, ours = class_key(SEGMENTATION, [target]), fixed_class_key(SEGMENTATION)
    assert {name: tuple(color) for name, color in zip(sheet.names, sheet.colors.tolist(), strict=True)} == {
        "e": tuple(ours.colors[4]),
        "b": tuple(ours.colors[1]),
    }
    assert legend_of(SEGMENTATION, [target, target]).named == [4, 1]


def test_an_overlay_blends_by_its_strength() -> None:
    grey, classes = np.full((10, 20, 3), 100, np.uint8), np.zeros((10, 20), np.uint8)
    classes[:, 10:] = 3
    legend = legend_of(SEGMENTATION, [classes])
    colors = fixed_class_key(SEGMENTATION).colors.astype(float)
    assert (overlay_colors(grey, classes, legend, 0) == grey).all()
    assert (overlay_colors(grey, classes, legend, 1)[:, 10:] == colors[3]).all()
    quarter = overlay_colors(grey, classes, legend, 0.25)
    assert (quarter[:, :9] == np.rint(75 + colors[0] / 4)).all()
    assert (quarter[:, 9] == colors[0]).all()  # along the border the colour stands alone


def test_attributes_stand_below_the_photo() -> None:
    pixels = np.asarray(photo())
    shares = {"male": {"yes": 0.25}, "light": {"dark": 0.1, "bright": 0.9}}
    picture = attributes_picture(pixels, shares)
    assert (picture[:20, :40] == pixels).all()
    assert picture.shape[0] > 20 + 3 * 12
    bars = (picture[20:] == [0, 0x72, 0xB2]).all(axis=-1).sum(axis=1)
    assert sorted(set(bars.tolist())) == [0, 9, 22, 81]  # of 90


def test_videos_keep_their_times_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from mtl.networks.video import VideoWriter, frame_rate, read_frames

    rate = Fraction(30_000, 1001)
    with VideoWriter(tmp_path / "x.mp4", rate) as writer:
        for number in range(12):
            writer.add(np.full((33, 47, 3), 20 * number, np.uint8), number / rate)
    assert frame_rate(tmp_path / "x.mp4") == rate
    frames = list(read_frames(tmp_path / "x.mp4"))
    assert [round(frame.at * rate, 2) for frame in frames] == list(range(12))
    assert frames[0].pixels.shape == (34, 48, 3)
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(frame.pixels[:30, :40].astype(int), 20 * number, atol=6)


def test_a_video_is_upright(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    from mtl.networks.video import read_frames

    with av.open(tmp_path / "turned.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV writes no rotation")
        stream.width, stream.height, stream.pix_fmt = 40, 20, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(photo()), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(tmp_path / "turned.mp4") as container:
        turned = {frame.rotation for frame in container.decode(video=0)}
    (pixels, *_) = [frame.pixels for frame in read_frames(tmp_path / "turned.mp4")]
    assert pixels.shape == (40, 20, 3)
    # Turned by 90 degrees against the clock, the red left side lies below.
    red_below = pixels[30, 10, 0] > 200
    assert turned == ({90} if red_below else {-90})


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from mtl.networks.video import check_video

    (tmp_path / "x.mp4").write_text("no video")
    with pytest.raises(BadInput, match=r"x.mp4: cannot be read as a video \("):
        check_video(tmp_path / "x.mp4")


def test_a_task_of_many_classes_has_as_many_colours() -> None:
    task = Task("many", "segmentation", tuple(f"c{k}" for k in range(60)))
    assert len({tuple(color) for color in fixed_class_key(task).colors.tolist()}) == 60


def test_edges_disparities_and_numbers_have_pictures_keys_and_arrays(tmp_path: Path) -> None:
    tasks = [
        Task("edges", "edges"),
        Task("near", "disparity", unit="px"),
        Task("eyes", "regression", values=("left x", "left y"), unit="px"),
    ]
    ramp = torch.linspace(-6, 6, 40).expand(1, 1, 30, 40)
    outputs = {"edges": ramp, "near": ramp.abs(), "eyes": torch.tensor([[0.25, 3.0]])}
    prediction = full_size(outputs, tasks, (30, 40))
    np.testing.assert_allclose(prediction.maps["edges"], ramp[0, 0].sigmoid(), rtol=1e-6)
    np.testing.assert_allclose(prediction.maps["near"], ramp[0, 0].abs(), rtol=1e-6)
    assert prediction.numbers == {"eyes": {"left x": 0.25, "left y": 3.0}}

    edges = map_picture(tasks[0], prediction.maps["edges"], "m")[:30, :40]
    assert (edges[0, 0] > 250).all()  # surely none: white
    assert (edges[0, -1] < 5).all()  # surely one: black
    near = map_picture(tasks[1], prediction.maps["near"], "m")[:30, :40].astype(int).sum(axis=-1)
    assert near[0, 20] < near[0, 10] < near[0, 0]  # the farther, the darker

    write_arrays(tmp_path / "one.npz", arrays_of(tasks, prediction), about_arrays(tasks, {}, "m", True))
    with np.load(tmp_path / "one.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["eyes"], np.array([0.25, 3.0], np.float32))
        assert arrays["edges"].shape == arrays["near"].shape == (30, 40)
