"""What users may type, at random from a fixed seed: an exit status, at most one line, never a traceback, no file."""

import io
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtl.config import LARGEST_STRENGTH
from mtl.errors import MOST_SHOWN, BadInput, one_line
from mtl.paths import user_path
from search.cli import main
from search.recipe import MOST_TRIALS, Recipe, expand
from search.recipe_file import MOST_RECIPE_BYTES, load_recipe
from tests.support.commands import refused
from tests.support.in_process import PENALTY_ALONE
from tests.support.waiting import DEADLINE_SECONDS

SEED = 12
DRAWN = 400

TEXTS = [
    *(
        "",
        " ",
        "-",
        ".",
        "..",
        "/",
        "~nosuch",
        "~nosuch/x",
        "a\0b",
        "\udcff\udc80",
        "new\nline",
        "\x1b[31m",
        "\xe9\xe8",
    ),
    *("x" * 300, "y/" * 3000, "z" * 100_000, "/dev/null", "/dev/null/x", "/proc/1/root/x"),
    *("loop", "loop/x", "file", "file/x", "fifo"),
    *("abfs://c@a.dfs.core.windows.net/x", "hdfs://h:1/x", "viewfs://h/x", "gcs://b/x", "://", "x://", "file://host/x"),
    *(
        "gs://b/x?bad=1",
        "gs://b@c:1/x",
        "gs://",
        "s3://",
        "S3://",
        "s3:/b",
        "s3:///x",
        "s3://b:99999999/x",
        "s3://[::1/x",
    ),
    *(
        ":",
        "a:",
        ":b",
        "..:x",
        ".x:y",
        "os:path",
        "torch:Tensor",
        "mtl.datasets.base:Dataset",
        "a\0:b",
        "=",
        "==",
        "=3",
    ),
    *("group_sparsity>=inf", "group_sparsity>=1e400", "x>=1", "a:maximize,a:maximize", ","),
]
VALUES = [
    *(
        "1000000000000",
        "1000000000",
        "10000000000000000000",
        "1e308",
        "-1e308",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "5e-324",
    ),
    *("-1", "0", "1.5", "9" * 4000, "9" * 5000, "0x" + "f" * 5000, "1000000,1000000", "true", "1979-05-27", "~nosuch"),
    *("[]", "{}", '""', "[[1]]", '"\\u0000"', '["\\u0000"]', '["a", "a"]', "[true, true]", "[1, 2, 3, 4, 5, 6, 7]"),
    *("[" * 3000, "{a=" * 3000, '["' + "z" * 100_000 + '"]', "[1000000000, 1000000000]", "[9999, 9999, 9999, 9999]"),
    *("{a = 1}", "{a = [1]}", "{lambda = [1, 2]}", "{lambda = [5e-324, 1e-323]}", "{lambda = [1e-300, 1e300]}"),
    *("{lr = [1e-3, 1e308]}", "{batch_size = [2, 10000000000]}", "{lambda_stage1 = [0, 1e308]}", "{penalty = [[1]]}"),
]
KEYS = [
    *(
        "",
        ".a",
        "a.b.c",
        "dataset_options.",
        "dataset_options.self",
        "dataset_options.train",
        "dataset_options.train.x",
    ),
    *("search_space.", "search_space.lambda.x", '"a"', "[x]", "x y", "\n", "model_config", "__class__", "lambdas.x"),
]
SEARCH = ["search", "rooms", "--dry-run", "--trials", "2"]
SWEEP = ["sweep", "rooms", "--dry-run"]
TRAIN = ["train", "rooms"]


class Reached(BaseException):
    """Nothing was refused: a trial would begin."""


@pytest.fixture
def cut(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a few odd things, and no trial that starts; the folder's names must not change."""

    def reached(*arguments: object, **more: object) -> None:
        raise Reached

    monkeypatch.setattr("search.run.Run.go", reached)
    monkeypatch.setattr("search.commands.train.run_one", reached)
    (empty / "loop").symlink_to("loop")
    (empty / "file").write_text("text")
    os.mkfifo(empty / "fifo")
    return empty


def every_case() -> Iterator[list[str]]:
    """All command lines that are drawn from."""
    for text in TEXTS:
        for start in (SWEEP, SEARCH, TRAIN):
            yield [start[0], text, *start[2:]]
            yield from ([*start, option, text] for option in ("--storage", "--name", "--data", "--set"))
            yield from ([*start, "--set", f"{field}={text}"] for field in ("weights", "dataset", "sampler", "mlflow"))
            yield [start[0], "nyuv2-small", *start[2:], "--data", text]
        yield from ([*SEARCH, option, text] for option in ("--study", "--target"))
        if "?" not in text:  # a database's driver would warn of a query that it does not know
            yield [*SEARCH, "--study", f"sqlite:///{text}"]
        yield from (["recipes", text], ["recipes", "rooms", "--set", text])
        if "://" not in text:  # a store that does not answer is waited for
            yield from (["analyze", text], ["analyze", text, text], ["status", text])
        yield from (
            ["analyze", ".", "--objectives", text],
            ["predict", text, text],
            ["predict", text, "x", "--out", text],
        )
        yield from (["compact", text], ["compact", text, "--export", text], ["compact", text, "--out", text], [text])
        yield from (["datasets", "check", text], ["datasets", "check", ".", "--dataset", text])
        yield ["datasets", "check", "--dataset", "rooms", "--option", text]
        yield ["datasets", "check", "--dataset", "rooms", "--option", f"train={text}"]
    for field, value in itertools.product(Recipe.model_fields, VALUES):
        yield from ([*start, "--set", f"{field}={value}"] for start in (SWEEP, SEARCH, TRAIN))
    for key, value in itertools.product(KEYS, VALUES):
        yield from ([*start, "--set", f"{key}={value}"] for start in (SEARCH, TRAIN))
    for value in VALUES:
        yield from (["search", "rooms", "--dry-run", option, value] for option in ("--trials", "--budget-hours"))
        yield from (["compact", "nowhere", "--threads", value], ["datasets", "check", "nowhere", "--seed", value])


def test_command_lines(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = list(every_case())
    before = sorted(path.name for path in cut.iterdir())
    for words in random.Random(SEED).sample(cases, DRAWN):
        shown = [word[:80] for word in words]
        try:
            status = main(words)
        except Reached:
            status = 0
        captured = capsys.readouterr()
        assert status in (0, 2), shown
        if status == 2:
            lines = captured.err.splitlines()
            assert lines, shown
            assert lines[-1].startswith("parsimony: "), shown
            assert len(lines[-1]) < MOST_SHOWN + 100, shown
            assert sum(line.startswith("parsimony: ") for line in lines) == 1, shown
            # What a dataset's check has found so far stands above its end.
            assert len(lines) == 1 or words[0] == "datasets", shown
        assert "Traceback" not in captured.err, shown
        assert sorted(path.name for path in cut.iterdir()) == before, shown


def test_every_value_of_every_field() -> None:
    """What is allowed is counted, and a refusal is short and names the field."""
    for field, value in itertools.product(Recipe.model_fields, VALUES):
        try:
            recipe = load_recipe("rooms", [f"{field}={value}"])
        except BadInput as error:
            said = str(error)
        else:
            assert recipe.trial_count <= MOST_TRIALS, (field, value[:80])
            continue
        assert field in said or "trials; allowed" in said, (field, value[:80])
        assert "allowed" in said, (field, value[:80])


def test_trials_are_counted_as_they_are_made() -> None:
    for sets in (
        [],
        ["combinations=single", "retraining=none,scratch"],
        ["combinations=depth", "seeds=[7]", "lambdas=1"],
    ):
        recipe = load_recipe("rooms", sets)
        assert recipe.trial_count == len(expand(recipe, "v"))


def test_more_trials_than_a_driver_can_hold() -> None:
    with pytest.raises(BadInput, match="make 4,900,000 trials; allowed: at most 100,000 in a sweep"):
        load_recipe("rooms", ["seeds=100000"])
    # Of 60 tasks there are more combinations than can be listed.
    tasks = ",".join(f"task{number}" for number in range(60))
    with pytest.raises(BadInput, match=r"make 1\.6e\+19 trials"):
        load_recipe("rooms", [f"tasks={tasks}"])
    recipe = load_recipe("rooms", [f"tasks={tasks}", "combinations=task3+task2,task59"])
    assert recipe.task_combinations == (("task2", "task3"), ("task59",))


def test_bounds_are_far_from_what_is_used() -> None:
    for name in ("rooms", "nyuv2", "celebamask-hq"):
        sets = ["backbone_width=512", "head_channels=2048", "image_size=4096", "batch_size=8192", "epochs=100000"]
        recipe = load_recipe(name, [*sets, f"lambdas=0,{LARGEST_STRENGTH:g}", "seeds=100", "combinations=single"])
        assert recipe.epochs == 100_000


def test_recipe_files(cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files: dict[str, bytes] = {
        "empty": b"",
        "nul": b"\0" * 100,
        "latin": b'title = "\xe9"',
        "utf16": 'title = "x"'.encode("utf-16"),
        "bom": b'\xef\xbb\xbfa = "x"',
        "deep": b"a = " + b"[" * 100_000,
        "tables": b"a = " + b"{a = " * 20_000,
        "dots": b".".join([b"a"] * 5000) + b" = 1",
        "digits": b"epochs = " + b"9" * 5000,
        "hex": b"epochs = 0x" + b"f" * 50_000,
        "date": b"epochs = 1979-05-27",
        "key": b'"a\\u0000b" = 1',
        "large": b"# x\n" * (MOST_RECIPE_BYTES // 4 + 1),
    }
    for name, content in files.items():
        path = cut / f"{name}.toml"
        path.write_bytes(content)
        line = refused(["sweep", str(path), "--dry-run"], capsys)
        assert str(path) in line
        path.unlink()


STORAGES = [
    "abfs://c@a.dfs.core.windows.net/x", "abfss://x/y", "hdfs://h:1/x", "viewfs://h/x", "mock://x", "gcs://b/x", "az://x",
    "://", "x://", "s3://", "s3:///x", "s3:/b/x", "gs://", "gs://b/x?bad=1", "gs://b@c:1/x", "gs://b:99999999/x",
    "gs://b/x?retry_limit_seconds=x", "file://host/x", "s3://b:99999999/x", "s3://[::1/x", "s3://b/x?bad=1",
    "s3://b/x?endpoint_override=a b", "s3://b/x?scheme=zzz&endpoint_override=127.0.0.1:1&region=r", "", " ", "a\0b",
    "~nosuch/x", "x" * 300, "y/" * 3000,
]  # fmt: skip
OPEN = """
import sys
from mtl.errors import BadInput
from search.store.storage import Store
for storage in eval(sys.stdin.read()):
    try:
        Store(storage, "name")
    except BadInput as error:
        print(ascii(str(error)))
"""


def test_storages_are_asked_for_by_schemes_that_are_known(tmp_path: Path) -> None:
    """In a process of its own, which some of pyarrow's file systems would end."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN],
        input=repr(STORAGES),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=DEADLINE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(STORAGES)
    for storage, line in zip(STORAGES, lines, strict=True):
        assert line.startswith(("'--storage", '"--storage')), storage[:80]
        assert "allowed: " in line, storage[:80]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("~nosuch/x", "--data ~nosuch/x: no home folder of that name; allowed: a path"),
        ("", "--data '': is empty; allowed: a path"),
        ("a\0b", "--data 'a\\x00b': holds a NUL or bytes that are not UTF-8; allowed: other text"),
        ("\udcff", "--data '\\udcff': holds a NUL or bytes that are not UTF-8; allowed: other text"),
        ("x" * 300, "cannot be reached (File name too long); allowed: a path"),
        ("loop", "--data loop: cannot be reached (Too many levels of symbolic links); allowed: a path"),
    ],
)
def test_a_path_that_nobody_can_use(text: str, said: str, cut: Path) -> None:
    with pytest.raises(BadInput) as caught:
        user_path("--data", text)
    assert said in str(caught.value)


def test_a_path_that_may_be_made(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/mine")
    for text in ("new", "new/er", "file/x", "~/x", "new\nline"):
        assert user_path("--out", text) == Path(text.replace("~", "/home/of/mine"))


def test_a_line_stays_one() -> None:
    assert one_line("a\nb\0c\x1b[31m\udcff×") == "a\\nb\\x00c\\x1b[31m\\udcff×"
    long = one_line("a" * 10**6 + "allowed: b")
    assert len(long) < MOST_SHOWN + 10
    assert long.endswith("allowed: b")


def test_output_that_cannot_show_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
        patch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        assert main(["recipes", "rooms", "--set", "title=größer × λ"]) == 0
        sys.stdout.flush()
        assert b"gr\\xf6\\xdfer \\xd7 \\u03bb" in written.getvalue()
        assert main(["recipes", "größer"]) == 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["search_space.lambda=5e-324,1e-323"],
            "allowed: the two positive ends of a range, or a list of values, 1e-30 to",
        ),
        (
            ["search_space.lambda=1e-3,1e300"],
            "allowed: the two positive ends of a range, or a list of values, 1e-30 to",
        ),
        (["search_space.lambda=1e-3,1e400"], "search_space.lambda = [0.001, inf]; allowed: a list of at most 1,000"),
        (["search_space.backbone_width=8,100000000"], "search_space.backbone_width has 100000000; allowed: less than"),
        (
            [
                "sampler=grid",
                *(f"search_space.{name}={list(range(2, 400))}" for name in ("batch_size", "head_channels")),
            ],
            "search_space has 475,212 combinations of values; allowed with sampler grid: 100,000",
        ),
    ],
)
def test_search_spaces(overrides: list[str], said: str, cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [word for override in (*PENALTY_ALONE, *overrides) for word in ("--set", override)]
    assert said in refused([*SEARCH, *sets], capsys)
