"""A file that appears whole or not at all, and in the place of nothing but a file."""

import os
from pathlib import Path

import pytest

from mtl.errors import BadInput
from search.store.atomic import Unfinished


def test_a_file_appears_at_the_end_and_replaces_another(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        with Unfinished(target, "--out") as file:
            with file.writing():
                file.path.write_text(text)
            assert (target.read_text() if target.exists() else "") != text
            file.finish()
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    with Unfinished(tmp_path / "file.txt", "--out") as file:
        file.path.write_text("half")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_a_pipe_and_a_link_to_one_are_refused(tmp_path: Path) -> None:
    """As root a device such as /dev/null would be replaced by a file, for everything that runs on the machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name, said in (("", "folder"), ("pipe", "pipe"), ("link", "pipe")):
        with pytest.raises(BadInput, match=rf"--out {tmp_path / name}: is a .*{said}; allowed: a file"):
            Unfinished(tmp_path / name, "--out")
