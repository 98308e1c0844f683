"""The study's sweeps, run one after the other on a local Ray; what is done already is not trained again."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.celebamask_folder import write_folder
from benchmarks.study.parts import MASKS, NYU, Part
from mtl.errors import BadInput
from search.engine.runner import Runner
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.sweep import open_sweep

MakeRunner = Callable[[], Runner]
# What stands in for the frames of NYU-v2 in a trial run without them.
ROOMS = ("dataset=rooms", "dataset_options.train=64", "dataset_options.val=32", "dataset_options.test=32")
DRAWN_FACES = 60


def train(parts: Sequence[Part], storage: Path, data: Mapping[str, Path | None], make_runner: MakeRunner) -> bool:
    """Train what is not done yet; whether all trials are done.

    Args:
        data: the folder of each dataset; None for rendered rooms and drawn faces.
        make_runner: gives what runs the trials of one part.
    """
    complete = True
    for number, part in enumerate(parts, 1):
        print(f"part {number} of {len(parts)}: {part.name}, {shown(part)}", file=sys.stderr, flush=True)
        fields, folder = on_data(part, storage, data)
        sweep = open_sweep(load_recipe(part.recipe, fields), str(storage), part.name, folder, here=True)
        done = run_sweep(sweep, make_runner())
        if len(done) < len(sweep.configs):
            raise BadInput(f"broken off in part {number}; the same command goes on from there")
        complete &= all(result.status == "done" for result in done)
    return complete


def shown(part: Part) -> str:
    """What a part trains, in a line."""
    words = dict(field.split("=", 1) for field in part.fields)
    return ", ".join(f"{name} {words[name]}" for name in ("combinations", "compressors", "targets") if words.get(name))


def on_data(part: Part, storage: Path, data: Mapping[str, Path | None]) -> tuple[list[str], str | None]:
    """The part's fields and its dataset's folder, or what stands in for it."""
    if folder := data[part.dataset]:
        return list(part.fields), str(folder)
    if part.dataset == NYU:
        return [one for one in part.fields if not one.startswith("dataset_options")] + list(ROOMS), None
    assert part.dataset == MASKS
    faces = storage / "drawn-faces"
    if not faces.is_dir():
        new = storage / "drawn-faces.new"  # renamed when it is whole
        shutil.rmtree(new, ignore_errors=True)
        write_folder(new, DRAWN_FACES)
        new.rename(faces)
    return list(part.fields), str(faces)
