"""What can become of a file: cut, overwritten, of another kind, not text, too deep, or no file at all."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

Damage = Callable[[Path], object]

# Of another type than whatever was there; as json.dumps writes them, NaN included.
VALUES = (None, [], {}, 1, -1, "x", "x\ny", 10**400, float("nan"), float("inf"), [[1]], {"x": [None]}, True, 1e300)


def damages(name: str, seed: int) -> Iterator[tuple[str, Damage]]:
    """Every damage that a file of this name can have, each with what it is called."""
    yield from OF_ANY.items()
    if name.endswith((".json", ".journal")):
        yield from OF_TEXT.items()
    rng = np.random.default_rng([seed, len(name)])
    for number in range(2):
        yield f"flipped-{number}", flipped(int(rng.integers(2**31)))


def flipped(seed: int) -> Damage:
    """Some bytes are others."""

    def damage(path: Path) -> None:
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        rng = np.random.default_rng(seed)
        places = rng.integers(0, len(content), size=max(1, len(content) // 200))
        content[places] = rng.integers(0, 256, size=len(places))
        path.write_bytes(content.tobytes())

    return damage


def written(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def cut(share: float) -> Damage:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return damage


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def under_a_file(path: Path) -> None:
    """Its folder is a file."""
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"file")


OF_ANY: Mapping[str, Damage] = {
    "empty": written(b""),
    "random": written(np.random.default_rng(0).bytes(2000)),
    "zeros": written(bytes(512)),
    "half": cut(0.5),
    "nearly-whole": cut(0.97),
    "begun": cut(0.02),
    "folder": a_folder,
    "loop": a_link_to_itself,
}
OF_TEXT: Mapping[str, Damage] = {
    "latin": written('{"name": "größe"}\n'.encode("latin-1")),
    "deep": written(b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "deep-object": written(b'{"schema": 1, "recipe": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}\n"),
    "surrogate": written(b'{"name": "\\ud800"}\n'),
    **{f"only-{json.dumps(value)[:9]!r}": written(json.dumps(value).encode() + b"\n") for value in VALUES},
}


def json_damages(content: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Of a JSON value: each field left out, and each set to something else, down to a depth."""
    if depth == 0 or not isinstance(content, dict | list):
        return
    items = list(content.items()) if isinstance(content, dict) else list(enumerate(content))
    if isinstance(content, dict):
        yield "more", content | {"unknown\n": 1}
    for key, value in items[:40]:
        if isinstance(content, dict):
            yield f"without-{key}", {name: one for name, one in content.items() if name != key}
        for other in VALUES:
            yield f"{key}={json.dumps(other)[:12]}", replaced(content, key, other)
        for name, inner in json_damages(value, depth - 1):
            yield f"{key}.{name}", replaced(content, key, inner)


def replaced(content: Any, key: Any, value: Any) -> Any:
    other = content.copy()
    other[key] = value
    return other


def table_damages(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of a table: without rows, each column left out, of another kind, or with values that it cannot have."""
    yield "no-rows", table.iloc[:0]
    yield "no-columns", table[[]]
    yield "twice", pd.concat([table, table])
    yield "index", table.set_index(table.columns[0])
    for column in table.columns:
        yield f"without-{column}", table.drop(columns=column)
        count = len(table)
        for name, values in {
            "text": ["x"] * count,
            "lists": [[1.0]] * count,
            "nulls": [None] * count,
            "bytes": [b"\xff"] * count,
            "nan": [float("nan")] * count,
            "inf": [float("inf")] * count,
            "huge": [1e308] * count,
            "minus": [-1e308] * count,
            "big": [2**62] * count,
            "bool": [True] * count,
            "date": [pd.Timestamp("2026-01-01")] * count,
            "structs": [{"a": 1}] * count,
            "lines": ["a\nb\x00"] * count,
            "empty": [""] * count,
        }.items():
            yield f"{column}-{name}", table.assign(**{column: pd.Series(values, index=table.index)})
