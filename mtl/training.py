"""One trial's training: epochs, validation, the best model, early stopping, resuming, and the test at the end."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mtl.chosen_epoch import takes_over
from mtl.compiled import Forward, network_pass
from mtl.config import TrialConfig
from mtl.datasets.base import Split
from mtl.datasets.batches.load import SplitArrays, evaluation_batches, keeps_resident, resident, training_batches
from mtl.errors import TrialFailed
from mtl.networks.costs import model_costs
from mtl.networks.model import MultiTaskModel, build_model, features_and_outputs, start_from_constants
from mtl.networks.pretrained import load_weights
from mtl.networks.retraining import FirstTraining, end_first_training, new_compact_model, sparsities
from mtl.objectives.constant_predictor import best_constant
from mtl.objectives.losses import align, loss_settings, task_loss
from mtl.objectives.metrics import TaskMetrics
from mtl.optimizer import ProximalAdamW
from mtl.passes import Asked, Pass, Passes, Step, Tensors, run_alone
from mtl.penalties import PENALTIES
from mtl.selection.compression import make_compression
from mtl.selection.groups import ChannelGroups
from mtl.selection.removal import Removal
from mtl.sparsity import penalised_layers, surviving_groups
from mtl.stacked import own_tensors, separate
from mtl.task_weighting.again import SamePass
from mtl.task_weighting.registry import TASK_WEIGHTINGS
from mtl.tasks import Task

Arrays = Mapping[Split, Mapping[str, np.ndarray]]

_NETWORKS = itertools.count()


class Training:
    """The state of one trial between epochs.

        training = Training(config, tasks, arrays, device)
        while not training.done:
            training.run_epoch()
        metrics = training.test()

    Both are also generators of passes, `epoch` and `testing`, so that several trainings can run at once: see
    `mtl.packed`.

    `state_dict` after any epoch, loaded into a new Training of the same config, goes on to the same numbers: every
    random number of an epoch comes from the seed and the epoch's index alone.

    With `config.retrained` a second training follows: of the first's best model without its zero channels, for as many
    epochs again, without a penalty. The history goes on, and the best model is then one of the second training.

    Raises TrialFailed when a loss is not finite.

    Args:
        arrays: by split, what `mtl.datasets.cache.build.materialise` gives.
        warm_start: the state of the model of `config.warm_started_from`, which this one starts from.
        loader_threads: that read batches ahead.

    Attributes:
        network_number: of the network as it is: another after its tensors have become others, and in no other training
            of this process the same.
        clock: seconds since some moment, by which an epoch's time is measured.
    """

    def __init__(
        self,
        config: TrialConfig,
        tasks: Sequence[Task],
        arrays: Arrays,
        device: torch.device,
        warm_start: Tensors | None = None,
        loader_threads: int = 1,
    ) -> None:
        self.config, self.tasks, self.device = config, list(tasks), device
        self.clock: Callable[[], float] = time.perf_counter
        self.arrays: Mapping[Split, SplitArrays] = arrays
        self.first: FirstTraining | None = None  # set when the second training starts
        self._constants = {
            task.name: best_constant(arrays["train"], task, config.protocol, config.edge_weight) for task in tasks
        }
        self.loader_threads = loader_threads
        if keeps_resident(config.resident, arrays.values(), tasks, device):
            self.arrays = {split: resident(arrays[split], tasks, device) for split in arrays}
        self.losses = loss_settings(
            config.protocol, config.depth_loss, config.label_smoothing, config.regression_loss, config.edge_weight
        )
        self.history: list[dict[str, float]] = []
        torch.manual_seed(config.seed)
        self._start(cast(MultiTaskModel, build_model(config, tasks)))
        if warm_start is not None and self._gone:
            self.model.load_state_dict(warm_start)
            self._gone.keep_used()
            self._remove_gone()

    def _start(self, model: MultiTaskModel) -> None:
        """Set up all that the first or the second training begins with, from an untrained model."""
        # channels_last: 1.6 times as fast for a ResNet-50 on CPU, and the layout of tensor cores on CUDA.
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.network_number = next(_NETWORKS)
        start_from_constants(self.model, self._constants)
        self.weighting = TASK_WEIGHTINGS[self.config.task_weighting](self.tasks).to(self.device)
        config = self.config.model_copy(update={"strength": 0.0}) if self.first else self.config
        self.optimizer = make_optimizer(self.model, self.weighting, config)
        self.scheduler = self._make_scheduler()
        steps = self.config.epochs_a_training * self._steps_an_epoch
        self.compression = make_compression(self.config, self.model, self.optimizer, steps)
        self.removal = Removal(self.model)
        self._compiled = network_pass(self.config.compile)
        self.best_epoch = -1
        self.best_model: dict[str, Tensor] = {}

    @property
    def epochs_run(self) -> int:
        return len(self.history)

    @property
    def done(self) -> bool:
        """Whether the last training has ended."""
        return self._ended and (self.first is not None or not self.config.retrained)

    @property
    def _ended(self) -> bool:
        """Whether the epochs are used up, or as many as `patience` have passed since the one chosen so far."""
        before = self.first.epochs if self.first else 0
        patience = self.config.patience
        run, stale = self.epochs_run - before, self.epochs_run - 1 - max(self.best_epoch, before - 1)
        return run >= self.config.epochs_a_training or bool(patience and run and stale >= patience)

    @property
    def _first_choice(self) -> int:
        """The first epoch after which no more channels go: whatever came before gives way to it."""
        return math.ceil(self.compression.last_step / self._steps_an_epoch) - 1 if self.compression else 0

    @property
    def survivors(self) -> dict[str, np.ndarray]:
        """For each penalised convolution which input channels the penalty has left, (C,) bool."""
        if self.first is None:
            return surviving_groups(self.model, self.config.penalised)
        return {name: alive.cpu().numpy() for name, alive in self.first.survivors.items()}

    def run_epoch(self) -> dict[str, float]:
        """Train one epoch, validate, and return the epoch's row of the history."""
        return run_alone(self.epoch())

    def epoch(self) -> Passes[dict[str, float]]:
        """The passes of `run_epoch`."""
        started = self.clock()
        if self._ended:
            self._start_second()
        epoch = self.epochs_run
        if epoch == 0 and self.config.weights and not self.config.warm_started_from:
            # Only now: a trial that goes on from a checkpoint does not need the file.
            load_weights(self.model.backbone, self.config)
        row = {"epoch": epoch, **(yield from self._train_epoch(epoch))}
        self._remove_gone()
        row |= {
            **(yield from self._evaluation("val")),
            **sparsities(self.removal.whole(), self.first, self.config.penalised),
        }
        best = self.history[self.best_epoch] if self.best_epoch >= self._first_choice else None
        if takes_over(self.tasks, row, best):
            self.best_epoch, self.best_model = epoch, self.removal.whole_state(self.model.state_dict())
        row["seconds"] = self.clock() - started
        self.history.append(row)
        return row

    def test(self) -> dict[str, float]:
        """Metrics of the chosen epoch's model on val and on test, its sparsity and the costs of its backbone.

        `last_group_sparsity` is that of the last epoch, which may not be the chosen one. Raises TrialFailed where no
        epoch had a finite validation loss.
        """
        return run_alone(self.testing())

    def testing(self) -> Passes[dict[str, float]]:
        """The passes of `test`."""
        self._load_best()
        best = self.history[self.best_epoch]
        tested = yield from self._evaluation("test")
        rows = [(name, value) for row in (best, tested) for name, value in row.items()]
        result = {k: v for k, v in rows if k.startswith(("val_", "test_")) and not k.endswith("_loss")}
        result |= {name: best[name] for name in ("group_sparsity", "parameter_sparsity")}
        result["last_group_sparsity"] = self.history[-1]["group_sparsity"]
        if self.first is not None:
            return result | self.first.costs
        config = self.config
        return result | model_costs(self.model, config.image_size, latency=config.measure_latency)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain data only, so that it can be read back with weights_only=True."""
        return {
            "first": vars(self.first) if self.first else None,
            "model": own_tensors(self.model.state_dict()),
            "weighting": self.weighting.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "compression": self.compression.state_dict() if self.compression else None,
            "kept": self._gone.kept if self._gone else None,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_model": self.best_model,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        if first := state.get("first"):  # not in checkpoints from before there was a second training
            self.first = FirstTraining(**first)
            self._start(new_compact_model(self.first.plan, self.config, self.tasks))
        if self.compression:
            self.compression.load_state_dict(state["compression"])
            if self._gone:
                self._gone.keep([kept.cpu() for kept in state["kept"]])
                self.removal.remove(self._gone, self.optimizer)
        for name in ("model", "weighting", "optimizer", *(["scheduler"] if self.scheduler else [])):
            getattr(self, name).load_state_dict(state[name])
        self.history = list(state["history"])
        self.best_epoch, self.best_model = state["best_epoch"], state["best_model"]

    def _load_best(self) -> None:
        if self.best_epoch < 0:
            raise TrialFailed("no epoch ended with a finite validation loss")
        separate(self.model)
        self.model = cast(MultiTaskModel, self.removal.whole())
        self.network_number = next(_NETWORKS)
        self.model.load_state_dict(self.best_model)

    @property
    def _gone(self) -> ChannelGroups | None:
        """The groups whose channels go for good, if there are any."""
        return self.compression.groups if self.compression else None

    def _remove_gone(self) -> None:
        """Train on without the channels that are gone."""
        if self.compression and self._gone and not all(bool(alive.all()) for alive in self._gone.alive):
            separate(self.model)
            self.network_number = next(_NETWORKS)
            self.compression.removed(self.removal.remove(self._gone, self.optimizer))

    def _start_second(self) -> None:
        """Go from the first training to the second."""
        self._load_best()
        self.first, state = end_first_training(self.model, self.config, self.epochs_run)
        torch.manual_seed(self.config.seed)
        self._start(new_compact_model(self.first.plan, self.config, self.tasks))
        if self.config.retraining == "fine_tune":
            self.model.load_state_dict(state)

    def _train_epoch(self, epoch: int) -> Passes[dict[str, float]]:
        """The mean training loss of each task, as columns of the history. Raises TrialFailed if one is not finite."""
        self.model.train()
        seed = epoch_seed(self.config.seed, epoch)
        torch.manual_seed(seed)  # for dropout and PCGrad
        order = torch.Generator().manual_seed(seed)
        batch_size, augmentation = self.config.batch_size, self.config.augmentation
        where = (self.device, self.loader_threads)
        steps: list[Tensor] = []
        for images, targets in training_batches(
            self.arrays["train"], self.tasks, batch_size, augmentation, order, *where
        ):
            same = SamePass(self.device) if self.weighting.looks_again else None
            losses = yield Pass(self, images, targets)
            steps.append(torch.stack([losses[task.name] for task in self.tasks]))
            if self.compression:
                self.compression.observe()
            try:
                yield Step(self)
            except TrialFailed:
                self._check_losses(torch.stack(steps), epoch)  # names the loss, where it is why the gradient is bad
                raise
            if same:
                self.weighting.stepped(same.repeat(self.model, partial(self._losses, images, targets))[0])
            if self.compression:
                self.compression.apply()
            if self.scheduler:
                self.scheduler.step()
        # Checked once an epoch: to check at each step would make the device wait.
        table = torch.stack(steps).double().cpu()
        self._check_losses(table, epoch)
        self.optimizer.raise_refused()
        means = dict(zip((task.name for task in self.tasks), table.mean(dim=0).tolist(), strict=True))
        self.weighting.epoch_ended(means)
        return {f"train_{name}_loss": mean for name, mean in means.items()}

    def serve(self, asked: Asked) -> Tensors:
        """Run a pass, or take a step, of this training by itself."""
        if isinstance(asked, Step):
            self.optimizer.step()
            return {}
        if asked.targets is None:
            with torch.inference_mode(), self.autocast():
                outputs: Tensors = self.model(asked.images)
            return outputs
        losses, features = self._losses(asked.images, asked.targets)
        self.optimizer.zero_grad()
        self.weighting.backward(losses, features, self.model)
        return {name: loss.detach() for name, loss in losses.items()}

    def _losses(self, images: Tensor, targets: Tensors) -> tuple[dict[str, Tensor], Tensor]:
        """Each task's loss of a batch, and the features that they depend on."""
        with self.autocast():
            features, outputs = self._forward(self.model, images)
        return self.losses_of(outputs, targets), features

    def losses_of(self, outputs: Tensors, targets: Tensors) -> dict[str, Tensor]:
        """Each task's training loss of a batch, 0-d, from the network's outputs."""
        losses = {}
        for task in self.tasks:
            aligned = self._aligned(task, outputs, targets, self.config.loss_stride)
            losses[task.name] = task_loss(task, *aligned, self.losses)
        return losses

    @property
    def _forward(self) -> Forward:
        """Compiled only while the network keeps its shape: each other shape would be compiled anew."""
        channels_go = self.compression is not None and self.epochs_run <= self._first_choice
        return features_and_outputs if channels_go else self._compiled

    def _check_losses(self, table: Tensor, epoch: int) -> None:
        """Raise TrialFailed at the first loss of the epoch that is not finite; `table` is (steps, tasks)."""
        for step, task in (~table.isfinite()).nonzero().tolist()[:1]:
            name = self.tasks[task].name
            raise TrialFailed(f"the loss of task {name} became not finite in epoch {epoch}, step {step}")

    def _evaluate(self, split: Split) -> dict[str, float]:
        return run_alone(self._evaluation(split))

    @torch.inference_mode()
    def _evaluation(self, split: Split) -> Passes[dict[str, float]]:
        """Losses and then metrics over a whole split, in eval mode, by names such as val_depth_loss and val_depth_mae.

        Losses are means over batches, weighted by their sizes.
        """
        self.model.eval()
        metrics = {task.name: TaskMetrics(task, self.config.protocol, self.device) for task in self.tasks}
        sums = {task.name: 0.0 for task in self.tasks}
        where = (self.device, self.loader_threads)
        for images, targets in evaluation_batches(self.arrays[split], self.tasks, 2 * self.config.batch_size, *where):
            outputs = yield Pass(self, images)
            for task in self.tasks:
                prediction, target = self._aligned(task, outputs, targets)
                sums[task.name] += float(task_loss(task, prediction, target, self.losses)) * len(images)
                metrics[task.name].update(prediction, target)
        count = len(self.arrays[split]["image"])
        row = {f"{split}_{name}_loss": total / count for name, total in sums.items()}
        for task in self.tasks:
            row |= {f"{split}_{name}": value for name, value in metrics[task.name].compute().items()}
        return row

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _aligned(self, task: Task, outputs: Tensors, targets: Tensors, stride: int = 1) -> tuple[Tensor, Tensor]:
        return align(task, outputs[task.name].float(), targets[task.name], self.config.protocol, stride)

    @property
    def _steps_an_epoch(self) -> int:
        count = len(self.arrays["train"]["image"])
        return count // min(self.config.batch_size, count)

    def _make_scheduler(self) -> torch.optim.lr_scheduler.LRScheduler | None:
        if self.config.lr_schedule == "constant":
            return None
        if self.config.lr_schedule == "halved":
            before = math.ceil(self.config.epochs_a_training / 2) * self._steps_an_epoch
            return torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=before, gamma=0.5)
        steps = self.config.epochs_a_training * self._steps_an_epoch
        highest = [group["lr"] for group in self.optimizer.param_groups]
        # Momentum does not change: the betas belong to the metric of the proximal step.
        return torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=highest, total_steps=steps, cycle_momentum=False
        )


def make_optimizer(model: MultiTaskModel, weighting: nn.Module, config: TrialConfig) -> ProximalAdamW:
    """The same optimizer at every strength, 0 included; weight decay on matrices and kernels only.

    What the task weighting learns has a rate of its own: Adam's steps are about as long as the rate whatever the
    gradient, and the log-variances of losses that differ by a factor of 100 lie 4.6 apart.

    Raises BadInput for a network with a layer that `mtl.proximal.layers.grouped_layers` refuses.
    """
    layouts = {id(layer.weight): layer.layout for layer in penalised_layers(model, config.penalised)}
    penalised: dict[float, list[tuple[str, nn.Parameter]]] = {}
    others = []
    for name, p in model.named_parameters():
        if id(p) in layouts:
            penalised.setdefault(config.strength * config.stage_factor(name), []).append((name, p))
        else:
            others.append((name, p))
    groups: list[dict[str, Any]] = [
        {
            "params": parameters,
            "layouts": [layouts[id(p)] for _, p in parameters],
            "penalty": PENALTIES[config.penalty](strength),
            "weight_decay": config.weight_decay,
        }
        for strength, parameters in penalised.items()
    ]
    groups += [
        {"params": [(name, p) for name, p in others if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [(name, p) for name, p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]  # a network of convolutions without biases has few
    learned = [(f"weighting.{name}", p) for name, p in weighting.named_parameters()]
    if learned:
        groups.append({"params": learned, "weight_decay": 0.0, "lr": config.weighting_lr})
    return ProximalAdamW(groups, lr=config.lr, metric=config.metric)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch of one trial, far from those of its neighbours."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def set_deterministic() -> None:
    """Ask torch for kernels that give the same numbers in every run on one device.

    Where CUDA has no such kernel torch warns and goes on: to lose a sweep over the last digit is not worth it.
    cuBLAS reads CUBLAS_WORKSPACE_CONFIG when it starts, so the caller sets it in the environment.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory that it has not written, and filling it all takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # TensorFloat-32 has 10 bits, and no convolution with it is of precision float32.
    torch.backends.cudnn.allow_tf32 = False
