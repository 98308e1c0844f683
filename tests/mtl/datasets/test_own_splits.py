"""Splits of one's own data: the same everywhere, by groups, and few moves as data is added."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl.datasets.base import SPLITS
from mtl.datasets.own.splits import find_ids, read_splits, split_by_seed, write_splits
from mtl.errors import BadInput
from search.cli import main

fixed = settings(derandomize=True, deadline=None, max_examples=40)
Capture = pytest.CaptureFixture[str]


@fixed
@given(st.integers(20, 300), st.integers(0, 2**31))
def test_every_sample_once_and_shares_to_a_sample(count: int, seed: int) -> None:
    ids = [f"frame{k}" for k in range(count)]
    found = split_by_seed(ids, seed)
    assert sorted(one for split in SPLITS for one in found[split]) == sorted(ids)
    for split, wanted in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert abs(len(found[split]) - wanted * count) <= 1
        assert found[split] == sorted(found[split])
    assert split_by_seed(list(reversed(ids)), seed) == found


def test_another_seed_is_another_split_and_this_one_is_the_same_on_every_machine() -> None:
    ids = [str(k) for k in range(10)]
    # In the order of `printf 0/$k | sha256sum` in a shell.
    assert split_by_seed(ids, 0, (0.6, 0.2, 0.2)) == {
        "train": ["0", "2", "4", "6", "7", "9"],
        "val": ["1", "5"],
        "test": ["3", "8"],
    }
    assert len({tuple(split_by_seed(ids, seed)["train"]) for seed in range(5)}) > 1


@fixed
@given(st.integers(0, 1000))
def test_frames_of_a_scene_stay_together(seed: int) -> None:
    ids = [f"scene{scene}/{frame}" for scene in range(20) for frame in range(1 + scene % 5)]
    found = split_by_seed(ids, seed, by="^[^/]+")
    scenes = {split: {one.partition("/")[0] for one in found[split]} for split in SPLITS}
    assert sum(map(len, scenes.values())) == 20
    flat = [one.replace("/", "_") for one in ids]
    assert split_by_seed(flat, seed, by="^(.*)_[0-9]+$") == {
        split: sorted(one.replace("/", "_") for one in found[split]) for split in SPLITS
    }


def test_what_is_added_moves_few() -> None:
    ids = [f"{k:04d}" for k in range(1000)]
    before, after = split_by_seed(ids[:900], 3), split_by_seed(ids, 3)
    was = {one: split for split in SPLITS for one in before[split]}
    moved = [one for split in SPLITS for one in after[split] if one in was and was[one] != split]
    assert len(moved) <= 30  # of 900; drawn anew without a hash, 410 would move


@pytest.mark.parametrize(
    ("ids", "options", "said"),
    [
        (["a", "b"], {}, "would be empty, of 2 samples; allowed: more of them, or other shares or seed"),
        (["a/1", "a/2", "a/3"], {"by": "^[^/]+"}, "would be empty, of 3 samples in 1 groups"),
        (["a", "a"], {}, "ids: 'a' is there twice; allowed: each once"),
        (["a", "b1", "c1"], {"by": "[0-9]"}, "by: '[0-9]' finds nothing in 'a'; allowed"),
        (["a", "b", "c"], {"by": "("}, "by: '(' is no regular expression"),
        (
            ["a", "b", "c"],
            {"shares": (0.5, 0.5, 0.5)},
            "shares: 0.5,0.5,0.5; allowed: three numbers above 0 that sum to 1",
        ),
        (["a", "b", "c"], {"shares": (1, 0, 0)}, "shares: 1,0,0; allowed"),
        (["a", "b", "c"], {"seed": -1}, "seed: -1; allowed: 0 or more"),
    ],
)
def test_what_cannot_be_split(ids: list[str], options: dict, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        split_by_seed(ids, **options)
    assert said in str(caught.value)


def folder(root: Path) -> Path:
    for scene in range(12):
        (root / "frames" / f"scene{scene}").mkdir(parents=True)
        for frame in range(3):
            (root / "frames" / f"scene{scene}" / f"{frame}.png").touch()
    return root


def test_the_command_writes_lists_that_are_read_back(tmp_path: Path, capsys: Capture) -> None:
    root = folder(tmp_path)
    words = ["datasets", "split", str(root), "--images", "frames/**/*.png", "--by", "^[^/]+"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "written" in said
    found = read_splits(root)
    assert found == split_by_seed(find_ids(root, "frames/**/*.png"), 0, by="^[^/]+")
    assert "scene0/1" in [one for split in SPLITS for one in found[split]]
    assert f"train {len(found['train']):>8,}" in said

    assert main(words) == 0
    assert "unchanged" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in (root / "splits").iterdir()}
    assert main([*words, "--seed", "1"]) == 2
    error = capsys.readouterr().err
    assert "holds other splits; allowed: --replace, or another folder" in error
    assert {path: path.read_bytes() for path in (root / "splits").iterdir()} == before
    assert main([*words, "--seed", "1", "--replace"]) == 0
    assert read_splits(root) != found


def test_bad_words_of_the_command_are_a_line(tmp_path: Path, capsys: Capture) -> None:
    root = folder(tmp_path)
    (root / "frames" / "scene0" / "0.jpg").touch()
    for words, said in (
        ([str(root)], "--images 'images/*': no file of"),
        ([str(root), "--images", "frames/**/*"], "are both scene0/0; allowed: one of them"),
        ([str(root), "--images", "../*"], "--images '../*': allowed: a pattern below the folder"),
        ([str(root), "--images", "frames/**/*.png", "--shares", "a,b"], "--shares a,b; allowed: three numbers"),
        ([str(root / "no")], "does not exist"),
    ):
        assert main(["datasets", "split", *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    assert not (root / "splits").exists()


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    write_splits(tmp_path, {"train": ["a"], "val": ["b"], "test": ["c"]})
    (tmp_path / "splits" / "test.txt").write_text("c\n\na\n")
    with pytest.raises(BadInput, match=r"test\.txt: has a, which is in train\.txt already"):
        read_splits(tmp_path)
    (tmp_path / "splits" / "test.txt").unlink()
    with pytest.raises(BadInput, match=r"test\.txt: is not there; allowed: as `parsimony datasets split"):
        read_splits(tmp_path)
