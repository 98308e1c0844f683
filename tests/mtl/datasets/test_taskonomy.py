"""The Taskonomy reader on tiny folders in each layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl.datasets.registry import load_dataset, recognise
from mtl.datasets.taskonomy.dataset import CLASSES, PLACES, Taskonomy
from mtl.errors import BadInput
from mtl.tasks import IGNORE
from search.cli import main
from tests.support.taskonomy_folder import BUILDINGS, SIZE, VIEWS, write_taskonomy

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_read_is_what_is_stored(tmp_path: Path, place: str) -> None:
    root = write_taskonomy(tmp_path, place)
    assert recognise(root) == "taskonomy"
    dataset = load_dataset("taskonomy", root)
    assert list(dataset.tasks) == ["segmentation", "depth", "normals", "edges"]
    assert isinstance(dataset, Taskonomy)
    every = [one for ids in dataset.ids.values() for one in ids]
    assert sorted(every) == [f"{building}/{view}" for building in BUILDINGS for view in VIEWS]
    for one in every:
        targets = dataset.load(one).targets
        assert targets["segmentation"][3].tolist() == [IGNORE] * 4 + [0] * 4 + [1] * 4 + [2] * 4
        assert targets["depth"][0].tolist() == [0] * 16
        assert (targets["depth"][1:] == 1).all()
        assert (targets["normals"][0] == 0).all()
        assert np.allclose(targets["normals"][1:], [0, 0, 1], atol=0.01)
        assert targets["edges"].sum(axis=0).tolist() == [16] + [0] * 15
    weak = Taskonomy(root, edge_threshold=0.02)
    assert weak.load(every[0]).targets["edges"].sum(axis=0).tolist() == [16, 16] + [0] * 14
    assert weak.fingerprint() != dataset.fingerprint()


def test_buildings_stay_whole(tmp_path: Path) -> None:
    root = write_taskonomy(tmp_path)
    for seed in range(3):
        dataset = Taskonomy(root, split_seed=seed)
        buildings = [{one.partition("/")[0] for one in ids} for ids in dataset.ids.values()]
        assert [len(one) for one in buildings] == [4, 1, 1]
        assert len(set.union(*buildings)) == 6


def test_published_lists(tmp_path: Path) -> None:
    root = write_taskonomy(tmp_path)
    lines = [
        "id,train,val,test",
        "allensville,1,0,0",
        "merom,1,0,0",
        "corozal,0,1,0",
        "coffeen,0,0,1",
        "ranchester,1,0,0",
    ]
    (root / "tiny.csv").write_text("\n".join(lines))
    dataset = load_dataset("taskonomy", root, {"split_file": "tiny.csv"})
    assert isinstance(dataset, Taskonomy)
    assert {split: sorted({one.partition("/")[0] for one in ids}) for split, ids in dataset.ids.items()} == {
        "train": ["allensville", "merom"],
        "val": ["corozal"],
        "test": ["coffeen"],
    }
    assert "2 of 6 buildings are not in it and left out" in dataset.notes[0]
    for line, said in (
        ("merom,1,1,0", "tiny.csv line 3: 'merom,1,1,0'; allowed: BUILDING and a 1 among 0s"),
        ("merom,yes,0,0", "tiny.csv line 3: 'merom,yes,0,0'; allowed"),
    ):
        (root / "tiny.csv").write_text("\n".join([*lines[:2], line]))
        with pytest.raises(BadInput) as caught:
            Taskonomy(root, split_file="tiny.csv")
        assert said in str(caught.value)
    (root / "tiny.csv").write_text("building,split\n")
    with pytest.raises(BadInput, match=r"line 1 is 'building,split'; allowed: id,train,val,test"):
        Taskonomy(root, split_file="tiny.csv")


def test_what_is_wrong_names_the_file(tmp_path: Path) -> None:
    root = write_taskonomy(tmp_path)
    one = f"merom/{VIEWS[0]}"
    path = root / "segment_semantic" / f"{one}_domain_segmentsemantic.png"
    Image.fromarray(np.full(SIZE, 18, np.uint8)).save(path)
    with pytest.raises(BadInput) as caught:
        Taskonomy(root).load(one)
    assert str(caught.value) == f"file {path}: holds label 18; allowed: 0..{len(CLASSES)}"
    (root / "normal" / f"{one}_domain_normal.png").unlink()
    assert Taskonomy(root).problems == [f"{root}/normal/{one}_domain_normal.png is missing"]
    for name in VIEWS:
        (root / "depth_zbuffer" / "coffeen" / f"{name}_domain_depth_zbuffer.png").unlink()
    assert f"{root}/depth_zbuffer/coffeen/{VIEWS[1]}_domain_depth_zbuffer.png is missing" in Taskonomy(root).problems
    for options, said in (
        ({"edge_threshold": 2}, "dataset_options.edge_threshold: 2; allowed: above 0 and below 1"),
        ({"split_seed": "a"}, "dataset_options.split_seed: 'a'; allowed: 0 or more"),
        ({"split_file": "no.csv"}, "no.csv: cannot be read as text"),
    ):
        with pytest.raises(BadInput) as caught:
            Taskonomy(root, **options)  # type: ignore[arg-type]
        assert said in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no point_P_view_V_domain_rgb\.png; expected Taskonomy"):
        Taskonomy(tmp_path)


def test_check_tallies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    write_taskonomy(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", "check", "data"]) == 0
    text = capsys.readouterr().out
    assert "taskonomy in data" in text
    assert "depth: metres" in text
