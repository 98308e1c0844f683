"""A retrained model as one compact network: its backbone has nothing left to remove, but batch norms still fold."""

import torch
from torch import Tensor, fx

from mtl.compaction.build import with_tensors
from mtl.compaction.fold import fold_norms, fold_shifts
from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.trace import trace
from mtl.networks.model import MultiTaskModel

INPUT = "images"


def fold_retrained(model: MultiTaskModel, example_input: Tensor) -> fx.GraphModule:
    """What `mtl.compaction.compact` is for other models, of `mtl.networks.retraining.new_compact_model`'s.

    example_input: images (N, 3, H, W), on the model's device. Operations are named as the model's modules are.
    """
    model.eval()
    with torch.no_grad():
        features = model.backbone(example_input[:1])
    backbone, (end,) = _renamed(_program(model.backbone), "backbone.", {"input": INPUT})
    nodes, ends = dict(backbone), {}
    for task, head in model.heads.items():
        parts, (ends[task],) = _renamed(trace(head, features), f"heads.{task}.", {"input": end})
        nodes |= {name: node for name, node in parts.items() if node.op != "input"}
    nodes["output"] = Node("output", "output", list(ends.values()), {"structure": ends})
    return with_tensors(fold_shifts(fold_norms(Program(nodes, {}))))


def _program(backbone: torch.nn.Module) -> Program:
    """The program of what `mtl.compaction.build` made, with its tensors."""
    assert isinstance(backbone, fx.GraphModule)
    state = backbone.state_dict()
    nodes = {}
    for step in backbone.meta["plan"]:
        prefix = f"{step['name']}."
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        tensors.pop("num_batches_tracked", None)
        nodes[step["name"]] = Node(**{**step, "settings": dict(step["settings"]), "tensors": tensors})
    return Program(nodes, {})


def _renamed(program: Program, prefix: str, ops: dict[str, str]) -> tuple[dict[str, Node], list[str]]:
    """The nodes but the output, renamed by a prefix or by `ops`, a name for an operation; and what the output names."""
    names = {node.name: ops.get(node.op, prefix + node.name) for node in program.nodes.values()}
    nodes: dict[str, Node] = {}
    ends: list[str] = []
    for node in program.nodes.values():
        if node.op == "output":
            ends = [names[name] for name in node.inputs]
            continue
        settings = dict(node.settings)
        if "like" in settings:
            settings["like"] = renamed(settings["like"], names)
        name = names[node.name]
        nodes[name] = Node(name, node.op, [names[i] for i in node.inputs], settings, dict(node.tensors))
    return nodes, ends
