"""The dataset of docs/own-data.md, taken from that page, from folder to report."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from search.cli import main
from search.engine.trial import _dataset_arrays
from tests.support.in_process import without_ray
from tests.support.leaves import SPECIES, write_leaves
from tests.support.pages import files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`leaves.py` and `leaves.toml` of docs/own-data.md beside a folder of 30 images in which blades are bright."""
    for name in ("leaves.py", "leaves.toml"):
        (tmp_path / name).write_text(files()[name], encoding="utf-8")
    write_leaves(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "leaves", raising=False)
    return tmp_path


def test_example_is_short() -> None:
    assert len(files()["leaves.py"].splitlines()) <= 60


def test_example_from_folder_to_report(folder: Path) -> None:
    words = [word for text in (*SMALL, "lambdas=0") for word in ("--set", text)]
    assert main(["sweep", "leaves.toml", "--data", "data", "--address", "local", *words]) == 0
    rows = pd.read_parquet(folder / "results" / "leaves" / "results.parquet")
    assert set(rows.tasks) == {"leaf", "species", "leaf+species"}
    assert list(rows.status) == ["done"] * 3
    joint = rows[rows.tasks == "leaf+species"]
    assert joint[["test_leaf_miou", "test_species_accuracy", "test_species_f1", "delta_m"]].notna().all(axis=None)
    assert main(["analyze", "results/leaves"]) == 0
    assert (folder / "results" / "leaves" / "analysis" / "report.html").stat().st_size > 10_000
    described = json.loads((folder / "results" / "leaves" / "sweep.json").read_text())
    assert described["recipe"]["dataset"] == "leaves:Leaves"
    assert described["tasks"]["species"]["classes"] == list(SPECIES)


def test_module_and_class_must_be_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (
        ("nowhere:Leaves", "cannot import nowhere (ModuleNotFoundError: No module named 'nowhere')"),
        ("leaves:Trees", "Trees is not a dataset class there; leaves has: Leaves"),
        ("leaves:FileDataset", "FileDataset lacks methods that a dataset must have; leaves has: Leaves"),
    ):
        assert main(["sweep", "leaves.toml", "--data", "data", "--set", f"dataset={name}"]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


def test_mask_out_of_range_names_its_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((40, 56), 7, np.uint8)).save(folder / "data" / "masks" / "leaf4.png")
    assert main(["train", "leaves.toml", "--data", "data", "--set", "combinations=leaf"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "sample leaf4 (images/leaf4.jpg, masks/leaf4.png): its leaf holds 7; allowed: 0..2, and 255" in error
    assert not (folder / "results" / "leaves" / "sweep.json").exists()


def test_missing_files_are_counted_and_the_first_is_named(folder: Path) -> None:
    sys.path.append(str(folder))
    for name in ("images/leaf7.jpg", "masks/leaf9.png"):
        (folder / "data" / name).unlink()
    with pytest.raises(BadInput) as caught:
        load_dataset("leaves:Leaves", folder / "data")
    assert str(caught.value).startswith(f"dataset leaves:Leaves: {folder}/data/")
    assert "is missing (and 1 more; `parsimony datasets check" in str(caught.value)


Capture = pytest.CaptureFixture[str]
SMALL = ["backbone_width=4", "head_channels=4", "batch_size=4", "image_size=32", "epochs=1", "seeds=1"]
ONE_TRIAL = [word for text in (*SMALL, "combinations=leaf", "lambdas=0") for word in ("--set", text)]


def sweep_again(*more: str) -> int:
    """One trial of leaves, as in a new process: the module is imported anew."""
    sys.modules.pop("leaves", None)
    with without_ray():
        return main(["sweep", "leaves.toml", "--data", "data", "--address", "local", *ONE_TRIAL, *more])


def edit_code(folder: Path, old: str, new: str) -> None:
    source = (folder / "leaves.py").read_text(encoding="utf-8")
    assert old in source
    (folder / "leaves.py").write_text(source.replace(old, new, 1), encoding="utf-8")


def test_changed_data_under_an_old_name_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep_again() == 0
    results = folder / "results" / "leaves"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    version = json.loads((results / "sweep.json").read_text())["data_version"]

    edit_code(folder, "class Leaves", "# Said once more.\nclass Leaves")
    capsys.readouterr()
    assert sweep_again() == 0
    assert "1 done before" in capsys.readouterr().err

    image = folder / "data" / "images" / "leaf0.jpg"
    content = image.read_bytes()
    image.write_bytes((folder / "data" / "images" / "leaf1.jpg").read_bytes())
    assert sweep_again("--set", "seeds=2") == 2
    error = capsys.readouterr().err
    assert (
        f"was run with data of version {version}, dataset leaves:Leaves in {folder}/data has version leaves-" in error
    )
    assert "allowed: the same files and the same code that reads them, or another --name" in error
    assert len(error.splitlines()) == 1

    image.write_bytes(content)
    edit_code(folder, "read_mask(mask)", "read_mask(mask)[::-1].copy()")
    assert sweep_again() == 2
    assert "has version leaves-" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    assert sweep_again("--name", "other") == 0
    assert "0 done before, 1 to run" in capsys.readouterr().err  # nor is a baseline of other data taken over


def test_options_are_part_of_the_fingerprint(folder: Path) -> None:
    sys.path.append(str(folder))
    edit_code(folder, "root: Path)", "root: Path, shade: int = 0)")
    given: list[dict[str, int]] = [{}, {"shade": 0}, {"shade": 1}]
    versions = [load_dataset("leaves:Leaves", folder / "data", options).fingerprint() for options in given]
    assert len(set(versions)) == 3
    assert load_dataset("leaves:Leaves", folder / "data", {"shade": 1}).fingerprint() == versions[2]


def test_compact_and_predict_in_the_folder_of_the_class_and_elsewhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    python_path = list(sys.path)
    assert sweep_again() == 0
    (trial,) = (folder / "results" / "leaves" / "trials").iterdir()
    picture = str(folder / "data" / "images" / "leaf0.jpg")

    def run(*words: str, code: int = 0) -> tuple[str, str]:
        """As a new process would."""
        sys.modules.pop("leaves", None)
        monkeypatch.setattr(sys, "path", list(python_path))
        _dataset_arrays.cache_clear()
        capsys.readouterr()
        assert main(list(words)) == code
        printed = capsys.readouterr()
        return printed.out, printed.err

    _, said = run("compact", str(trial), "--data", "data")
    assert "outputs equal on 6 images" in said  # those of validation
    assert "random" not in said
    _, said = run("compact", str(trial))
    assert "random images, as there are none of the trial's own: dataset 'leaves:Leaves' is code, which runs" in said
    assert "only where you ask for it with --data DIR, in the folder that has leaves" in said
    assert "leaves" not in sys.modules

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    data = str(folder / "data")
    _, said = run("compact", str(trial), "--data", data, "--out", "compact.pt", code=2)
    assert "dataset 'leaves:Leaves': cannot import leaves (ModuleNotFoundError: No module named 'leaves'); " in said
    assert f"{elsewhere}, PYTHONPATH, and what is installed" in said
    assert len(said.splitlines()) == 1
    assert list(elsewhere.iterdir()) == []
    run("compact", str(trial), "--out", "compact.pt")
    for model in (trial, elsewhere / "compact.pt"):
        out, _ = run("predict", str(model), picture, "--out", f"maps of {model.name}")
        assert "leaf0-leaf.png" in out
    monkeypatch.chdir(folder)
    run("predict", str(trial / "compact.pt"), picture)
    assert (folder / "predictions" / "leaf0-leaf.png").is_file()
    assert "leaves" not in sys.modules
