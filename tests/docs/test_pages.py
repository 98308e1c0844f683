"""Every block of code of the README and of docs/ runs, commands in their text are commands, links lead somewhere."""

import functools
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

import search
from mtl.errors import BadInput
from mtl.networks.video import VideoWriter
from search.arguments import make_parser
from search.cli import main
from tests.docs.shell import ROOMS, World, check_benchmark, sets
from tests.support.in_process import without_ray
from tests.support.leaves import write_lanes, write_leaves
from tests.support.nyuv2_folders import write_nyud_mt
from tests.support.pages import Block, blocks, files, inline_code, pages
from tests.support.paths import ROOT

# Read by Sphinx, which `make docs` runs strictly.
SPHINX = re.compile(r"\{[\w-]+\}")
PAGES = [page for page in pages() if any(not SPHINX.fullmatch(block.language) for block in blocks(page))]


def of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results/rooms, as `parsimony sweep rooms` leaves it, in small."""
    folder = tmp_path_factory.mktemp("swept")
    small = ["--set", "combinations=segmentation+depth", *sets(ROOMS)]
    with without_ray(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["sweep", "rooms", "--address", "local", *small]) == 0
    return folder


@pytest.fixture
def world(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    """What the pages speak of: results, data, files of one's own, a photograph."""
    folder = tmp_path / "world"
    shutil.copytree(swept, folder)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")
    write_leaves(folder / "path" / "to" / "leaves")
    write_lanes(folder / "path" / "to" / "lanes")
    for scene in range(6):
        frames = folder / "path" / "to" / "videos" / "frames" / f"scene{scene}"
        frames.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(frames / "0.png")
    names = [f"{k:04d}" for k in range(66)]
    write_nyud_mt(folder / "path" / "to" / "NYU-v2", {"train": names, "val": ["1001", "1002"]})
    (folder / "photos").mkdir()
    for name in ("photo.jpg", "photos/door.jpg"):
        Image.new("RGB", (64, 48), (120, 90, 60)).save(folder / name)
    with VideoWriter(folder / "walk.mp4", Fraction(25)) as video:
        for shade in range(3):
            video.add(np.full((48, 64, 3), 80 * shade, np.uint8), Fraction(shade, 25))
        video.close()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    for module in ("leaves", "lanes", "nets"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    yield World(folder, capsys)
    for module in ("leaves", "lanes", "nets"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_every_block_of_a_page_runs(page: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(field.split("=") for field in ROOMS)
    fields = {name: int(value) for name, value in given.items() if "." not in name}
    options = {name.split(".")[1]: int(value) for name, value in given.items() if "." in name}
    for name in ("run_sweep", "run_search"):
        smaller = functools.partial(getattr(search, name), dataset_options=options, **fields)
        monkeypatch.setattr(search, name, smaller)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        run(block, world, names)


def run(block: Block, world: World, names: dict[str, object]) -> None:
    where = f"{block.page}:{block.line}"
    if SPHINX.fullmatch(block.language) or block.language == "text":
        return
    if block.language == "sh":
        world.run(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "python":
        code = compile(block.text, where, "exec")
        if block.file is None:
            exec(code, names)
    else:
        pytest.fail(f"{where}: a block of {block.language}, of which nothing is tested")


@pytest.mark.parametrize("page", pages(), ids=of)
def test_commands_in_the_text_are_commands(page: Path) -> None:
    for code in inline_code(page):
        words = code.replace("…", "").split()
        if words[:1] == ["parsimony"] and len(words) > 1 and "-" not in words[-1][-1:]:
            if words[1:] == ["--version"]:
                continue
            check_verb(words[1:])
        if words[:2] == ["python", "-m"]:
            check_benchmark(words[1:])
        if words[:1] == ["make"] and len(words) > 1:
            assert re.search(rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text(), re.MULTILINE), code


def check_verb(words: list[str]) -> None:
    """A verb and options that there are; in a text it may lack what it needs."""
    try:
        make_parser().parse_args([word.strip("'[]") for word in words])
    except BadInput as error:
        if "the following arguments are required" not in str(error):
            raise


def test_links_lead_somewhere() -> None:
    """Sphinx checks those within docs/; this also those of the README and of the other pages at the root."""
    for page in [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
            for child in token.children or ():
                target = str(child.attrs.get("href", child.attrs.get("src", "")))
                if target and "://" not in target and not target.startswith("#"):
                    path = page.parent / target.partition("#")[0]
                    assert path.exists(), f"{of(page)}: {target}"


def test_the_readme_is_three_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
