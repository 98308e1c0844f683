"""Model files that are damaged, or made to do harm: `predict` and `compact` work, or say in one line why they do not.

Each case is a valid file of a trial, of a retrained trial, or of `compact`, changed at random places from a fixed seed.
Nothing in a file runs: the changes hold code that would leave a file called `harm`.
"""

import contextlib
import copy
import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mtl.compaction import compact, save_compact
from mtl.networks.checkpoint import about_trial
from mtl.networks.export import write_export
from mtl.networks.model import MultiTaskModel
from mtl.networks.retraining import end_first_training
from search.cli import main
from tests.support.checkpoints import sparse_model, time_nothing
from tests.support.small import TASKS, config

CHILD_SECONDS = 600
CODE = "__import__('pathlib').Path('harm').touch()"
TEXTS = [
    f"x={CODE}",
    f'a"); {CODE}; ("',
    f"a.{CODE}",
    f"x\n    {CODE}\n",
    "../../harm",
    "/tmp/harm",
    "forward",
    "__class__",
    "self",
    "class",
    "",
    "a" * 5000,
    "\ud800",
    "\0",
]
NUMBERS = [None, True, -1, 0, 10**9, 10**18, 10**5000, 1e308, float("nan"), float("inf")]


def deep(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def odd_tensors(like: torch.Tensor | None) -> list[torch.Tensor]:
    """Of a shape, if one is given, but not what a network can have as weights."""
    shape = (2, 2) if like is None else tuple(like.shape)
    plain = torch.ones(shape)
    return [
        plain.double(),
        plain.to(torch.int32),
        plain.to(torch.complex64),
        plain.to_sparse() if plain.ndim else plain.bool(),
        torch.full(shape, torch.nan),
        torch.full(shape, 3e38),
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(1).expand(shape) if plain.ndim else torch.zeros(0),
        torch.zeros(0),
        plain[None],
    ]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something lies in dicts, lists and tuples within each other."""
    if path:
        yield path
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in pairs if isinstance(content, dict | list | tuple) else ():
        if isinstance(value, dict | list | tuple):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


def changed(content: Any, path: tuple[Any, ...], random_: random.Random) -> Any:
    """The content with what lies at a place removed, renamed, doubled or replaced."""
    key, rest = path[0], path[1:]
    if isinstance(content, tuple):
        return tuple(changed(list(content), path, random_))
    content = copy.copy(content)
    if rest:
        content[key] = changed(content[key], rest, random_)
        return content
    value = content[key]
    ways = ["replace", "replace", "replace", "remove", "rename" if isinstance(content, dict) else "double"]
    match random_.choice(ways):
        case "remove":
            del content[key]
        case "rename":
            content = {random_.choice([*TEXTS, 3, None]) if k == key else k: v for k, v in content.items()}
        case "double":
            content.insert(key, value)
        case _:
            tensor = value if isinstance(value, torch.Tensor) else None
            others = [*TEXTS, *NUMBERS, [], {}, (), [value], {"a": value}, deep(300), [1] * 10_000, torch.zeros(2)]
            odd = odd_tensors(tensor) if tensor is not None or random_.random() < 0.1 else []
            content[key] = random_.choice(odd or others)
    return content


@contextlib.contextmanager
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        time_nothing(patch)
        yield


def check(words: list[str], case: object) -> int:
    """Run a command in the current folder, which holds nothing but what it is given."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except BaseException as error:
            raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
    lines = err.getvalue().splitlines()
    # 1: a compact model that differs, where weights are so large that rounding counts.
    assert code in ((0, 2) if words[0] == "predict" else (0, 1, 2)), f"{case}: exit status {code}: {lines}"
    if code:
        assert out.getvalue() == "", case
        assert lines[-1].startswith("parsimony: "), f"{case}: {lines}"
        assert lines[-1].isprintable(), f"{case}: {lines}"
        assert len(lines[-1]) < 1500, f"{case}: {lines}"
        others = [line for line in lines[:-1] if not line.startswith(("random images", "outputs equal"))]
        assert others == [], f"{case}: {lines}"
        assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before, case
    assert not Path("harm").exists(), case
    return code


def contents() -> dict[str, dict[str, Any]]:
    """What torch.save wrote of a trial, of a retrained trial, and of a compact model, as small as they come."""
    settings = config(
        tasks=("segmentation", "male"), backbone_width=2, head_channels=2, head_rates=(2,), image_size=(16, 16)
    )
    tasks = [task for task in TASKS if task.name in settings.tasks]
    model = sparse_model(settings, tasks, 0.5, 0)
    assert isinstance(model, MultiTaskModel)
    first, state = end_first_training(model, settings, 1)
    about = about_trial(settings, tasks)
    small = compact(model, torch.zeros(2, 3, 16, 16), selections="always", memory_format="channels_last")
    file = io.BytesIO()
    save_compact(file, small, about)  # type: ignore[arg-type]
    file.seek(0)
    return {
        "trial": {**about, "model": dict(model.state_dict())},
        "retrained": {**about, "model": dict(state), "backbone_plan": first.plan},
        "compact": torch.load(file, weights_only=True),
    }


def photo() -> None:
    Image.new("RGB", (20, 20), (90, 120, 200)).save("photo.png")


def run(name: str, kind: str, case: object) -> list[int]:
    codes = [check(["predict", name, "photo.png", "--out", "pictures"], case)]
    if kind != "compact":
        codes.append(check(["compact", name, "--out", "small.pt"], case))
    return codes


@pytest.mark.parametrize(("kind", "count"), [("trial", 20), ("retrained", 40), ("compact", 60)])
def test_values_of_other_kinds(kind: str, count: int, empty: Path) -> None:
    photo()
    content = contents()[kind]
    random_ = random.Random(kind)
    # A place of the plan as often as one of the weights, of which there are many more.
    by_part: dict[Any, list[tuple[Any, ...]]] = {}
    for path in places(content):
        by_part.setdefault(path[:2] if path[0] == "about" else path[0], []).append(path)
    codes: list[int] = []
    with quick():
        torch.save(content, "model.pt")
        assert set(run("model.pt", kind, "unchanged")) == {0}
        for number in range(count):
            path = random_.choice(by_part[random_.choice(list(by_part))])
            bad = changed(content, path, random_)
            torch.save(bad, "model.pt")
            codes += run("model.pt", kind, (number, path))
    assert codes.count(2) > count / 3


def damaged(whole: bytes, random_: random.Random) -> bytes:
    """Cut off, or with bytes that are others, missing or too many."""
    data = bytearray(whole)
    place = random_.randrange(len(data))
    match random_.choice(["cut", "flip", "flip", "zero", "insert", "drop"]):
        case "cut":
            del data[place:]
        case "flip":
            for _ in range(random_.choice([1, 10, 200])):
                data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        case "zero":
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        case "insert":
            data[place:place] = random_.randbytes(9)
        case _:
            del data[place : place + 9]
    return bytes(data)


def run_damaged_files() -> None:
    """In the current folder, where model.pt, compact.pt and compact.onnx lie."""
    photo()
    with quick():
        for name, kind, count in (
            ("model.pt", "trial", 8),
            ("compact.pt", "compact", 30),
            ("compact.onnx", "compact", 45),
        ):
            whole = Path(name).read_bytes()
            random_ = random.Random(name)
            run(name, kind, "unchanged")
            for number in range(count):
                Path(f"bad-{name}").write_bytes(damaged(whole, random_))
                run(f"bad-{name}", kind, (name, number))


def test_damaged_bytes(empty: Path) -> None:
    """In a process of its own, which a fault in a library's own code would end."""
    made = contents()
    torch.save(made["trial"], "model.pt")
    torch.save(made["compact"], "compact.pt")
    from mtl.compaction import load_compact

    model, about = load_compact("compact.pt")
    write_export("onnx", model, torch.zeros(2, 3, 16, 16), Path("compact.onnx"), about)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.search.commands.test_fuzz_models import run_damaged_files; run_damaged_files()",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr[-3000:]}"
