"""penalised = all: the heads' convolutions are under the penalty too, counted, and removed by compaction."""

import pytest
import torch
from torch import nn

from mtl.compaction import certify, compact
from mtl.networks.measurement import count_macs
from mtl.networks.model import build_model, last_layer
from mtl.penalties import GroupLasso
from mtl.sparsity import measure_sparsity
from mtl.training import Training, make_optimizer
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")


def test_all_penalises_each_convolution_once_and_backbone_only_its_own() -> None:
    model = build_model(config(), TASKS)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    own = [module for module in model.backbone.modules() if isinstance(module, nn.Conv2d)]
    for penalised, expected in (("backbone", own), ("all", convolutions)):
        groups = make_optimizer(model, nn.Module(), config(penalised=penalised)).param_groups
        found = [p for group in groups if isinstance(group["penalty"], GroupLasso) for p in group["params"]]
        assert sorted(map(id, found)) == sorted(id(module.weight) for module in expected)
        assert len(measure_sparsity(model, penalised).layers) == len(expected)  # type: ignore[arg-type]


def test_zeros_of_heads_are_counted_removed_and_leave_the_outputs() -> None:
    results = {}
    for penalised in ("backbone", "all"):
        training = Training(config(penalised=penalised, strength=0.3, epochs=4), TASKS, arrays(), CPU)
        while not training.done:
            training.run_epoch()
        results[penalised] = training.test()
        heads = [name for name in training.survivors if name.startswith("heads.")]
        assert bool(heads) == (penalised == "all")
        groups = [alive for _, alive in training.survivors.items()]
        zero = 1 - sum(int(one.sum()) for one in groups) / sum(map(len, groups))
        assert zero == pytest.approx(measure_sparsity(training.model, training.config.penalised).group_sparsity)
    assert any(not training.survivors[name].all() for name in heads)
    assert results["all"]["model_macs"] < results["backbone"]["model_macs"]
    model = training.model.eval()
    small = compact(model, torch.zeros(1, 3, 32, 48), selections="always", memory_format="channels_last")
    images = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    certify(model, small, [images], 1e-4)
    assert {name: output.shape for name, output in small(images).items()} == {
        name: output.shape for name, output in model(images).items()
    }
    assert all(
        last_layer(head).weight.shape[0] == t.channels for head, t in zip(model.heads.values(), TASKS, strict=True)
    )
    assert count_macs(small, (32, 48)) == results["all"]["model_macs"]


def test_a_target_on_group_sparsity_counts_the_heads() -> None:
    one = config(compressor="penalty_to_target", target_group_sparsity=0.6, strength=0.0, penalised="all", epochs=2)
    training = Training(one, TASKS, arrays(), CPU)
    while not training.done:
        training.run_epoch()
    assert abs(training.test()["group_sparsity"] - 0.6) <= 0.005
    assert any(not alive.all() for name, alive in training.survivors.items() if name.startswith("heads."))


def test_ids_and_numbers_of_before_stay_and_a_second_training_is_refused() -> None:
    assert config().trial_id == config(penalised="backbone").trial_id != config(penalised="all").trial_id
    assert config().setup_id != config(penalised="all").setup_id
    with pytest.raises(ValueError, match="penalised = all with retraining = scratch; allowed: penalised = backbone"):
        config(penalised="all", retraining="scratch")
