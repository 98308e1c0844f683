"""`parsimony compact`: a trial's model without its zero channels, proven equal, measured, and written."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from mtl.compaction import certify, compact, save_compact
from mtl.compaction.compact import fold_compact
from mtl.datasets.batches.load import evaluation_batches
from mtl.errors import BadInput, TrialFailed
from mtl.networks.checkpoint import Checkpoint, about_trial, checkpoint_path, load_checkpoint
from mtl.networks.export import SUFFIXES, check_packages, write_export
from mtl.networks.measurement import (
    Latency,
    best_format,
    count_macs,
    count_parameters,
    measure_latency,
    peak_memory_bytes,
)
from mtl.networks.model import MultiTaskModel
from mtl.own_modules import add_module_folders, allowed_network
from mtl.paths import user_path
from mtl.vocabulary import units
from search.engine.trial import trial_data
from search.store.atomic import Unfinished

MOST_IMAGES = 64  # of the validation split, on which the outputs are compared
MOST_THREADS = 1024  # more would start more threads than a process may have, and torch would end it
# Differences relative to the largest output. An exported file runs other kernels, which add up in another order.
TOLERANCE = 1e-5
EXPORT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Costs:
    """Bytes, and latencies by batch size."""

    parameters: int
    macs: int
    file_bytes: int
    memory_bytes: dict[int, int]
    latencies: dict[int, Latency]


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput for what the user gave."""
    if options.threads is not None:
        if not 1 <= options.threads <= MOST_THREADS:
            raise BadInput(f"--threads {options.threads}; allowed: 1 or more, at most {MOST_THREADS:,}")
        torch.set_num_threads(options.threads)
    exports = [part.strip() for part in options.export.split(",") if part.strip()]
    name = str(user_path("checkpoint", options.checkpoint))
    data = None if options.data is None else str(user_path("--data", options.data).absolute())
    out = None if options.out is None else user_path("--out", options.out)
    for export_format in exports:
        check_packages(export_format)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this machine has no GPU; allowed: cpu")
    path = checkpoint_path(name)
    target = out or path.with_name("compact.pt")
    if target.suffix in SUFFIXES.values():
        raise BadInput(f"--out {target}: ends as an export does; allowed: another ending, such as .pt")
    checkpoint = load_checkpoint(path, allowed_network(options.network))
    if checkpoint.compact:
        raise BadInput(f"checkpoint {path}: is compact already; allowed: a trial's model.pt")
    if target.exists() and target.samefile(path):
        raise BadInput(f"--out {target}: is the checkpoint itself; allowed: another file")
    try:
        _write_all(checkpoint, _images(checkpoint, data), target, exports, options.device)
    except TrialFailed as error:
        print(f"parsimony: {error}; nothing was written", file=sys.stderr)
        return 1
    return 0


def _write_all(checkpoint: Checkpoint, images: Tensor, target: Path, exports: Sequence[str], device: str) -> None:
    """Write the compact model and its exports, and print the costs; all files appear at the end, or none does.

    Raises TrialFailed for a compact model or export whose outputs differ.
    """
    batches = images.split(checkpoint.config.batch_size)
    model = checkpoint.model
    try:
        compacted = _compacted(model.to(device), batches[0].to(device)).cpu()
        certificate = certify(model.cpu(), compacted, batches, TOLERANCE)
    except BadInput as error:
        raise BadInput(f"checkpoint {checkpoint.path}: {error}") from error
    _note(f"outputs equal on {certificate.images} images, to {certificate.largest:.1e} of their scale")
    about = about_trial(checkpoint.config, checkpoint.tasks)
    with ExitStack() as stack:
        files = [stack.enter_context(Unfinished(target, "--out"))]
        with files[0].writing():
            save_compact(files[0].path, compacted, about)
        for export_format in dict.fromkeys(exports):
            file = stack.enter_context(Unfinished(target.with_suffix(SUFFIXES[export_format]), "--out"))
            with file.writing():
                exported = write_export(export_format, compacted, torch.cat([images, images])[:2], file.path, about)
            difference = certify(compacted, exported, [*batches, images[:1]], EXPORT_TOLERANCE).largest
            _note(f"{file.target.name}: equal to the compact model to {difference:.1e}")
            files.append(file)
        print(cost_table(*_measure(checkpoint, compacted, files[0].path, batches[0], device)))
        for file in files:
            file.finish()
            print(file.target)


def _compacted(model: nn.Module, images: Tensor) -> fx.GraphModule:
    retrained = isinstance(model, MultiTaskModel) and isinstance(model.backbone, fx.GraphModule)
    return fold_compact(model, images) if retrained else compact(model, images)


def cost_table(before: Costs, after: Costs) -> str:
    """Both models' costs side by side, with units and how latency was measured."""
    numbers = {
        "parameters": (before.parameters, after.parameters, units.number),
        "multiply-accumulates, one image": (before.macs, after.macs, units.macs),
        "file": (before.file_bytes, after.file_bytes, units.byte_size),
    }
    for batch, size in before.memory_bytes.items():
        numbers[f"peak memory, batch {batch}"] = (size, after.memory_bytes[batch], units.byte_size)
    rows: list[tuple[str, ...]] = [("", "before", "after", "before / after")]
    for name, (old, new, written) in numbers.items():
        rows.append((name, written(old), written(new), f"{old / new:.2f} ×" if new else ""))
    for batch, slow in before.latencies.items():
        fast = after.latencies[batch]
        quartiles = [f"{x.median_ms:.2f} ({x.lower_ms:.2f}-{x.upper_ms:.2f})" for x in (slow, fast)]
        ratio = f"{slow.median_ms / fast.median_ms:.2f} ×"
        rows.append((f"latency, batch {batch} [ms], median (quartiles)", *quartiles, ratio))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    first = next(iter(before.latencies.values()))
    threads = f", {first.threads} threads" if first.device == "cpu" else ""
    return "\n".join([*lines, f"latency on {first.device}{threads}; each model in the memory format that suits it"])


def _images(checkpoint: Checkpoint, data: str | None) -> Tensor:
    """(N, 3, H, W): the first of the validation split, or random images where there are no data and none are named."""
    config = checkpoint.config
    try:
        module, own, _ = config.dataset.partition(":")
        if own and not data:  # the file of a model, which may be a stranger's, does not say which code runs
            raise BadInput(
                f"dataset {config.dataset!r} is code, which runs only where you ask for it with --data DIR, "
                f"in the folder that has {module.partition('.')[0]}"
            )
        if own:
            add_module_folders([Path.cwd()])
        _, arrays = trial_data(config, data)
    except BadInput as error:
        if data:
            raise
        _note(f"random images, as there are none of the trial's own: {error}")
        count = min(2 * config.batch_size, MOST_IMAGES)
        return torch.randn(count, 3, *config.image_size, generator=torch.Generator().manual_seed(0))
    few = {"image": arrays["val"]["image"][:MOST_IMAGES]}
    ((images, _),) = evaluation_batches(few, [], MOST_IMAGES)
    return images


def _measure(checkpoint: Checkpoint, compacted: nn.Module, file: Path, images: Tensor, device: str) -> list[Costs]:
    """Of the checkpoint's model and of the compact one."""
    models = [checkpoint.model.to(device), compacted.to(device)]
    images = images.to(device)
    own_format = best_format(models[0], images)
    batches = {len(batch): batch.contiguous(memory_format=own_format) for batch in (images[:1], images)}
    latencies = {size: measure_latency(models, batch) for size, batch in batches.items()}
    return [
        Costs(
            count_parameters(model),
            count_macs(model, checkpoint.config.image_size),
            path.stat().st_size,
            {size: peak_memory_bytes(model, batch) for size, batch in batches.items()},
            {size: measured[place] for size, measured in latencies.items()},
        )
        for place, (model, path) in enumerate(zip(models, (checkpoint.path, file), strict=True))
    ]


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
