"""torch.compile in a training: the same training but for rounding, eager while channels go, and errors in one line.

The backend is aot_eager, which compiles as the others do and runs torch's own kernels, within seconds.
"""

from typing import Any

import pytest
import torch

from mtl import training as training_module
from mtl.compiled import network_pass
from mtl.errors import BadInput, TrialFailed
from mtl.networks.model import features_and_outputs
from mtl.training import Training
from tests.support.small import TASKS, arrays, config

DEPTH = [task for task in TASKS if task.name == "depth"]
FIELDS: dict[str, Any] = {"tasks": ("depth",), "epochs": 1, "strength": 1e-3}


def trained(**fields: Any) -> Training:
    training = Training(config(**FIELDS | fields), DEPTH, arrays(), torch.device("cpu"))
    while not training.done:
        training.run_epoch()
    return training


def test_a_compiled_training_is_the_same_training(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = trained().history
    monkeypatch.setattr(training_module, "network_pass", lambda asked: network_pass("aot_eager"))
    for before, after in zip(eager, trained(compile="inductor").history, strict=True):
        assert before.keys() == after.keys()
        for name in before.keys() - {"seconds"}:
            assert after[name] == pytest.approx(before[name], rel=2e-3, abs=2e-3), name


def test_it_is_eager_while_channels_go(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def make(backend: str) -> Any:
        assert backend == "inductor"

        def run(model: Any, images: torch.Tensor) -> Any:
            calls.append(training.epochs_run)
            return features_and_outputs(model, images)

        return run

    monkeypatch.setattr(training_module, "network_pass", make)
    chosen = config(**FIELDS | {"compile": "inductor", "compressor": "selection", "strength": 0.0, "epochs": 4})
    training = Training(chosen.model_copy(update={"target_macs": 0.5}), DEPTH, arrays(), torch.device("cpu"))
    while not training.done:
        training.run_epoch()
    assert set(calls) == {3}  # selection ends in the third of four epochs


def test_it_counts_in_the_trials_id_and_off_does_not() -> None:
    assert config(compile="off").trial_id == config().trial_id
    assert config(compile="inductor").trial_id != config().trial_id


def test_cuda_graphs_need_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match="compile = 'cudagraphs' without CUDA; allowed: off, inductor"):
        network_pass("cudagraphs")


def test_what_the_compiler_says_is_one_line() -> None:
    from torch._dynamo import register_backend

    @register_backend(name="broken")
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler here\nand more")

    run = network_pass("broken")
    with pytest.raises(
        TrialFailed, match=r"compile = 'broken'; `--set compile=off`.*no compiler here and more"
    ) as caught:
        run(torch.nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", ["inductor", "cudagraphs"])
def test_on_cuda_the_loss_is_the_same(backend: str) -> None:
    eager, compiled = trained(), trained(compile=backend)
    assert compiled.history[-1]["val_depth_mae"] == pytest.approx(eager.history[-1]["val_depth_mae"], rel=0.05)
