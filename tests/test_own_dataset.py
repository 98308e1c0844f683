"""The README's own dataset, taken from the README, from folder to report."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from search.cli import main

README = Path(__file__).parents[1] / "README.md"
SPECIES = ("oak", "beech", "maple")


def readme_block(first_line: str) -> str:
    """The README's code block that begins with this line."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if block.startswith(first_line))
    return block


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`leaves.py` and `leaves.toml` of the README beside a folder of 30 images in which blades are bright."""
    (tmp_path / "leaves.py").write_text(readme_block("# leaves.py"), encoding="utf-8")
    (tmp_path / "leaves.toml").write_text(readme_block("# leaves.toml"), encoding="utf-8")
    data = tmp_path / "data"
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
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "leaves", raising=False)
    return tmp_path


def test_readme_example_is_short() -> None:
    assert len(readme_block("# leaves.py").splitlines()) <= 60


def test_readme_example_from_folder_to_report(folder: Path) -> None:
    size = ["--set", "epochs=1", "--set", "seeds=1", "--set", "lambdas=0,1e-3", "--set", "image_size=32"]
    small = ["--set", "backbone_width=4", "--set", "head_channels=4", "--set", "batch_size=4"]
    command = ["sweep", "leaves.toml", "--data", "data", "--address", "local", *size, *small]
    assert main(command) == 0
    rows = pd.read_parquet(folder / "results" / "leaves" / "results.parquet")
    assert set(rows.tasks) == {"leaf", "species", "leaf+species"}
    assert list(rows.status) == ["done"] * 6
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


def test_changed_code_is_changed_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.append(str(folder))
    before = load_dataset("leaves:Leaves", folder / "data").fingerprint()
    monkeypatch.delitem(sys.modules, "leaves")
    source = (folder / "leaves.py").read_text(encoding="utf-8")
    (folder / "leaves.py").write_text(source + "\n# Another reading of the same files.\n", encoding="utf-8")
    assert load_dataset("leaves:Leaves", folder / "data").fingerprint() != before
