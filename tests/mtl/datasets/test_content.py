"""Listings of folders, and hashes of contents that are remembered and yet never stale."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mtl.datasets.inspect import content
from mtl.datasets.inspect.content import Listing, digests
from mtl.errors import BadInput

FILES = ["a.txt", "sub/b.txt", "sub/deeper/c.txt"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(f"content of {file}")
    return root


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough to be remembered from the moment they are written."""
    monkeypatch.setattr(content, "COARSEST_STEP", -(10**18))


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose content was read, in any order."""
    read: list[str] = []
    original = content._hash

    def spy(path: str) -> tuple[str, content.Stamp]:
        read.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(content, "_hash", spy)
    return read


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def remembered(memory: Path) -> Path:
    return next((memory / "digests").glob("*.json"))


def test_listing_has_files_and_no_folders(root: Path) -> None:
    listing = Listing(root)
    assert all(listing.has(file) for file in FILES)
    assert not any(listing.has(file) for file in ("sub", "none", "sub/none", "none/none", "a.txt/none"))
    assert listing.names("") == {"a.txt"}
    assert listing.names("sub") == {"b.txt"}
    assert listing.names("none") == listing.names("a.txt") == frozenset()


def test_a_link_to_nothing_is_no_file(root: Path) -> None:
    (root / "good").symlink_to(root / "a.txt")
    (root / "bad").symlink_to(root / "none")
    assert Listing(root).names("") == {"a.txt", "good"}


def test_each_folder_is_listed_once(root: Path) -> None:
    listing = Listing(root)
    assert listing.has("a.txt")
    (root / "late").touch()
    assert not listing.has("late")


def test_a_folder_that_cannot_be_listed_is_named(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(BadInput, match=r"^folder .*/loop: cannot be listed \([^\n]+\)$"):
        Listing(root).names("loop")


def test_digests_are_sha256(root: Path, memory: Path) -> None:
    found = digests(Listing(root), [*FILES, FILES[0]], memory)
    assert found == {file: sha256(root / file) for file in FILES}
    assert list(found) == FILES


def test_digests_of_many_files_are_in_order(root: Path, memory: Path) -> None:
    files = [f"many/{k}" for k in range(3 * content.CHUNK + 1)]
    (root / "many").mkdir()
    for file in files:
        (root / file).write_text(file)
    assert digests(Listing(root), files, memory) == {file: hashlib.sha256(file.encode()).hexdigest() for file in files}


@pytest.mark.usefixtures("settled")
def test_what_is_remembered_is_not_read(root: Path, memory: Path, read_files: list[str]) -> None:
    first = digests(Listing(root), FILES, memory)
    assert sorted(read_files) == ["a.txt", "b.txt", "c.txt"]
    read_files.clear()
    assert digests(Listing(root), FILES, memory) == first
    assert read_files == []


@pytest.mark.usefixtures("settled")
def test_only_new_and_changed_files_are_read(root: Path, memory: Path, read_files: list[str]) -> None:
    digests(Listing(root), FILES, memory)
    (root / "sub" / "b.txt").write_text("longer than it was before")
    (root / "new").write_text("new")
    read_files.clear()
    found = digests(Listing(root), [*FILES, "new"], memory)
    assert sorted(read_files) == ["b.txt", "new"]
    assert found == {file: sha256(root / file) for file in [*FILES, "new"]}


@pytest.mark.usefixtures("settled")
def test_a_change_that_keeps_size_and_time_is_seen(root: Path, memory: Path) -> None:
    digests(Listing(root), FILES, memory)
    status = (root / "a.txt").stat()
    # Until the clock by which the file system keeps its own time has made a step.
    while (root / "a.txt").stat().st_ctime_ns == status.st_ctime_ns:
        (root / "a.txt").write_text("CONTENT OF a.txt")
        os.utime(root / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests(Listing(root), FILES, memory)["a.txt"] == sha256(root / "a.txt")


def test_files_written_just_now_are_read_again(root: Path, memory: Path, read_files: list[str]) -> None:
    """Another change within the same step of the clock would leave size and times as they are."""
    digests(Listing(root), FILES, memory)
    digests(Listing(root), FILES, memory)
    assert sorted(read_files) == sorted(2 * ["a.txt", "b.txt", "c.txt"])


@pytest.mark.usefixtures("settled")
def test_a_change_between_two_calls_on_one_listing_is_seen(root: Path, memory: Path) -> None:
    listing = Listing(root)
    digests(listing, FILES, memory)
    (root / "a.txt").write_text("something else")
    assert digests(listing, FILES, memory)["a.txt"] == sha256(root / "a.txt")


@pytest.mark.usefixtures("settled")
def test_asking_for_some_files_forgets_no_others(root: Path, memory: Path, read_files: list[str]) -> None:
    digests(Listing(root), FILES[:2], memory)
    digests(Listing(root), FILES[2:], memory)
    read_files.clear()
    digests(Listing(root), FILES, memory)
    assert read_files == []


@pytest.mark.usefixtures("settled")
def test_folders_do_not_share_what_is_remembered(root: Path, memory: Path, tmp_path: Path) -> None:
    digests(Listing(root), FILES[:1], memory)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("another content")
    assert digests(Listing(other), FILES[:1], memory) == {"a.txt": sha256(other / "a.txt")}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 100_000,
        '{"a.txt": 5}',
        '{"a.txt": []}',
        '{"a.txt": [1, 2, "x"]}',
        '{"a.txt": ["x", null, [], "x"]}',
        '{"a.txt": [1, 2, 3, 4]}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_memory_is_written_anew(root: Path, memory: Path, text: str | bytes) -> None:
    expected = digests(Listing(root), FILES, memory)
    remembered(memory).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert digests(Listing(root), FILES, memory) == expected
    assert sorted(json.loads(remembered(memory).read_bytes())) == sorted(FILES)


@pytest.mark.usefixtures("settled")
def test_a_digest_of_the_wrong_type_is_not_given_back(root: Path, memory: Path) -> None:
    expected = digests(Listing(root), FILES, memory)
    rows = json.loads(remembered(memory).read_bytes())
    remembered(memory).write_text(json.dumps({file: [*numbers, 5] for file, (*numbers, _) in rows.items()}))
    assert digests(Listing(root), FILES, memory) == expected


@pytest.mark.usefixtures("settled")
def test_a_memory_that_cannot_be_written_is_done_without(root: Path, memory: Path) -> None:
    memory.write_text("a file where the folder should be")
    assert digests(Listing(root), FILES, memory) == {file: sha256(root / file) for file in FILES}


@pytest.mark.usefixtures("settled")
def test_a_failed_write_leaves_nothing_behind(root: Path, memory: Path) -> None:
    digests(Listing(root), FILES, memory)
    path = remembered(memory)
    path.unlink()
    path.mkdir()
    assert digests(Listing(root), FILES, memory) == {file: sha256(root / file) for file in FILES}
    assert list((memory / "digests").iterdir()) == [path]


@pytest.mark.usefixtures("settled")
def test_writers_at_the_same_time_leave_a_whole_memory(root: Path, memory: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: digests(Listing(root), [FILES[k % 3]], memory), range(60)))
    assert digests(Listing(root), FILES, memory) == {file: sha256(root / file) for file in FILES}
    assert [path.suffix for path in (memory / "digests").iterdir()] == [".json"]


def test_a_missing_file_is_named(root: Path, memory: Path) -> None:
    with pytest.raises(BadInput, match=r"^file .*/sub/none: cannot be read \(No such file or directory\)$"):
        digests(Listing(root), ["a.txt", "sub/none"], memory)
