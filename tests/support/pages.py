"""The README and the pages of docs/, and the code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from tests.support.paths import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
# A block whose first line is such a comment is a file of that name.
FILE_NAME = re.compile(r"\A(?:#!.*\n)?# ([\w.-]+\.(?:py|toml|yaml|sbatch))\n")


@dataclass(frozen=True)
class Block:
    """One fenced block: its page below the root, the line it begins in, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it is one."""
        named = FILE_NAME.match(self.text)
        return named[1] if named else None


def pages() -> list[Path]:
    written = [page for page in DOCS.rglob("*.md") if "_build" not in page.parts]
    return [README, *sorted(written)]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order; an indented one, which has no language, has the language "indented"."""
    name = str(page.relative_to(ROOT))
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.split(" ")[0] if token.type == "fence" else "indented"
            yield Block(name, token.map[0] + 1, language, token.content)


def inline_code(page: Path) -> Iterator[str]:
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content


def files() -> dict[str, str]:
    """The files that the pages show whole, by name."""
    shown = [block for page in pages() for block in blocks(page) if block.file is not None]
    found = {block.file: block.text for block in shown if block.file}
    assert len(found) == len(shown), "two blocks are the same file"
    return found
