"""Does it pay on real images? `python -m benchmarks.study`, or `make study`.

Prints the tables of docs/study.md from what is recorded in `benchmarks/recordings/study`. `--run` trains what is
missing and measures the compact models' latency:

    make study ARGS="--nyuv2 DIR --celebamask DIR"    in full: some 12 hours on two cores
    make study ARGS=--quick                           all of it in small, in minutes, to see that it runs

Without `--nyuv2` and `--celebamask` `--quick` trains on rendered rooms and drawn faces. Broken off, the same command
goes on. Tables, figures and a report of each sweep are in STORAGE/analysis.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from analysis.analyze import analyze
from analysis.compute.merge import load_sweeps
from analysis.files import write_bytes
from benchmarks.study.baselines import train_baselines
from benchmarks.study.figures import draw
from benchmarks.study.latencies import ROUNDS, measure_latencies
from benchmarks.study.parts import FULL, MASKS, NYU, PAPER, QUICK, TRIPLE, parts
from benchmarks.study.record import BASELINES, LATENCIES, RECORDING, record
from benchmarks.study.run import train
from benchmarks.study.tables import tables, updated
from mtl.errors import BadInput
from search.engine.runner import LocalRunner, RayRunner

SWEEPS = (("nyuv2", "nyuv2-l1"), ("nyuv2-paper",), ("celebamask",), ("nyuv2-bf16",))


def run(storage: Path, data: Mapping[str, Path | None], *, quick: bool) -> None:
    """Train what is not done yet, and measure."""
    scale = QUICK if quick else FULL
    every = parts(scale)
    storage.mkdir(parents=True, exist_ok=True)
    # Trials of a second each are done sooner than Ray starts for every part.
    failed = not train(every, storage, data, LocalRunner if quick else lambda: RayRunner("local"))
    train_baselines(next(part for part in every if part.name == PAPER), storage, data, storage / BASELINES)
    if not (storage / LATENCIES).is_file():
        measured = measure_latencies(load_sweeps([storage / "nyuv2"]), TRIPLE, rounds=5 if quick else ROUNDS)
        measured.to_parquet(storage / LATENCIES, index=False)
    if failed:
        raise BadInput(f"some trials failed: parsimony status {storage}/NAME; the same command tries them again")


def publish(folder: Path, out: Path) -> str:
    """Write tables, figures and reports of the sweeps in the folder; print the tables and return them."""
    found = tables(folder)
    write_bytes(out / "study.md", f"{found}\n".encode())
    for name, picture in draw(folder).items():
        write_bytes(out / f"{name}.png", picture)
    for names in SWEEPS:
        there = [folder / name for name in names if (folder / name).is_dir()]
        if there:
            analyze(there, out=out / names[0])
    print(found)
    print(f"\ntables, figures and reports: {out}", file=sys.stderr)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="train what is not done yet")
    parser.add_argument("--quick", action="store_true", help="in small; with --run")
    parser.add_argument("--nyuv2", type=Path, metavar="DIR", help="the folder of NYU-v2")
    parser.add_argument("--celebamask", type=Path, metavar="DIR", help="the folder of CelebAMask-HQ")
    parser.add_argument("--storage", type=Path, help="where trials are kept (default results/study, or …/study-quick)")
    parser.add_argument("--docs", type=Path, metavar="FILE", help="put the tables in the place of those in this page")
    parser.add_argument("--record", action="store_true", help="keep the rows in benchmarks/recordings/study")
    options = parser.parse_args()
    storage = options.storage or Path("results") / ("study-quick" if options.quick else "study")
    try:
        if options.run:
            if not options.quick and not (options.nyuv2 and options.celebamask):
                raise BadInput("--nyuv2 and --celebamask: the folders of the datasets; allowed without them: --quick")
            run(storage, {NYU: options.nyuv2, MASKS: options.celebamask}, quick=options.quick)
        if options.record:
            record(storage)
        found = publish(storage if options.run else RECORDING, storage / "analysis")
        if options.docs:
            page = updated(options.docs.read_text(encoding="utf-8"), found)
            write_bytes(options.docs, page.encode())
    except BadInput as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
