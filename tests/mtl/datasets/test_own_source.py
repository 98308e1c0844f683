"""What of the user's source code counts as a change of the data: all that it does, and nothing that it says."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtl.datasets.own.source import source_digests

SOURCE = '''
"""A module."""
import own_helper
LIMIT = 255


class Reader:
    """A class."""

    def read(self, path):
        """A method."""
        # A comment.
        return own_helper.decode(path, limit=LIMIT)
'''
HELPER = "def decode(path, limit):\n    return path\n"

Write = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules by their paths, imports `own_reader` as a new process would, and gives its hashes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith("own_")]:
            del sys.modules[name]

    def write(source: str = SOURCE, module: str = "own_reader", **others: str) -> list[str]:
        for name, text in {module: source, "own_helper": HELPER, **others}.items():
            path = tmp_path / f"{name.replace('.', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        forget()
        importlib.invalidate_caches()
        importlib.import_module(module)
        return source_digests([module])

    yield write
    forget()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# A comment.", "# Another one, and longer."),
        ('"""A module."""', ""),
        ('"""A class."""', "'What it does.'"),
        ('"""A method."""', ""),
        ("path, limit=LIMIT", "\n            path,\n            limit=(LIMIT),\n        "),
        ("LIMIT = 255", "\n\nLIMIT = 0xFF"),
    ],
)
def test_what_says_or_looks_otherwise_is_the_same(write: Write, old: str, new: str) -> None:
    assert old in SOURCE
    assert write() == write(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 255", "LIMIT = 254"),
        ("LIMIT = 255", "LIMIT = True"),
        ("LIMIT = 255", "LIMIT = '255'"),
        ("LIMIT = 255", "LIMIT = None"),
        ("limit=LIMIT", "limit=LIMIT - 1"),
        ("limit=LIMIT", "limit=[LIMIT]"),
        ("class Reader:", "class Reader(dict):"),
        ("def read(self, path)", "def read(self, path=None)"),
    ],
)
def test_what_does_otherwise_is_not(write: Write, old: str, new: str) -> None:
    assert old in SOURCE
    assert write() != write(SOURCE.replace(old, new))


def test_the_users_modules_that_are_imported_count(write: Write) -> None:
    before = write()
    assert len(before) == 2
    assert write(own_helper=HELPER + "# more") == before
    assert write(own_helper=HELPER + "more = 1") != before


def test_modules_of_a_package_count_however_they_are_imported(write: Write) -> None:
    package = {"own_package.__init__": "", "own_package.first": "from . import second", "own_package.second": "x = 1"}
    for line in ("import own_package.first", "from own_package import first", "from own_package.first import second"):
        before = write(line, **package)
        assert len(before) == 4
        assert write(line, **package | {"own_package.second": "x = 2"}) != before
    inside = {**package, "own_package.third": "from .second import x\nfrom . import first"}
    assert len(write("from .third import x", "own_package.reader", **inside)) == 5


def test_imports_that_do_not_run_with_the_module_do_not_count(write: Write) -> None:
    """What they name need not be on a cluster's other machines."""
    for before in (
        "def show():",
        "class Shown:\n  async def show(self):",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:",
        "import typing\nif typing.TYPE_CHECKING:",
        "if __name__ == '__main__':",
    ):
        assert len(write(f"{before}\n    import own_helper\n")) == 1
    for before in ("if True:", "try:\n    import own_nowhere\nexcept ImportError:", "class Reader:"):
        assert len(write(f"{before}\n    import own_helper\n")) == 2


def test_installed_modules_do_not_count(write: Write) -> None:
    source = "import csv, numpy as np, os.path\nfrom mtl.tasks import Task\nfrom scipy.io import loadmat\n"
    assert len(write(source + "try:\n    import own_nowhere\nexcept ImportError:\n    pass\n")) == 1


def test_code_of_any_shape(write: Write) -> None:
    long = "x = " + " + ".join(["1"] * 900)
    assert write(long) != write(long + " + 1")
    assert write("x = 0x" + "f" * 5000) != write("x = 0x" + "e" * 5000)
    assert write("x = '\\ud800'") != write("x = '\\ud801'")
    assert write("x = (1, ..., 1j, .5, b'a', f'{1!r:>{2}}')") != write("x = (1, ..., 1j, .5, b'a', f'{1!r:>{3}}')")
    broken = "if False:\n    import own_broken"
    assert write(broken, own_broken="def") != write(broken, own_broken="deff f")
