"""What a user types, as text and as paths, checked before it is passed to the operating system."""

import errno
from collections.abc import Iterable
from pathlib import Path

from mtl.errors import BadInput

ABSENT = (errno.ENOENT, errno.ENOTDIR)  # the errors of a path that can be made; nobody can use one with other errors


def user_path(option: str, text: str) -> Path:
    """The path that a user names, `~` and `~name` expanded; it need not exist.

    option: what the user gave it by, such as --data. Raises BadInput, one line, for text that cannot be a path: empty,
    with a NUL or not UTF-8, too long, of an unknown user's home, through a loop of links or a folder that is closed.
    """
    check_text(option, text)
    if not text.strip():
        raise BadInput(f"{option} {text!r}: is empty; allowed: a path")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # of an unknown user; a folder of this name is written ./~name
        raise BadInput(f"{option} {text}: no home folder of that name; allowed: a path") from error
    try:
        path.stat()
    except OSError as error:
        if error.errno not in ABSENT:
            raise BadInput(f"{option} {text}: cannot be reached ({error.strerror}); allowed: a path") from error
    return path


def check_text(option: str, text: str) -> None:
    """Raise BadInput for text that neither the system nor a file can hold: with a NUL, or not of UTF-8."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadInput(f"{option} {text!r}: holds a NUL or bytes that are not UTF-8; allowed: other text")


def check_words(words: Iterable[str]) -> None:
    """As `check_text`, of a whole command line."""
    for word in words:
        check_text("command line:", word)
