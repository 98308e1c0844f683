"""Several trainings in one process, whose networks run as one batched network where they are alike."""

import sys
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, cast

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from mtl.half import Autocast
from mtl.passes import Asked, Pass, Passes, Result, Step
from mtl.stacked import Stack, structure
from mtl.task_weighting.base import WeightedSum
from mtl.together import step_together
from mtl.training import Training

Answer = Mapping[str, Tensor]
Served = list[Answer | Exception]

# Of a trial's settings, those that its network and its losses are made by: equal in trainings that run as one.
SHARED = (
    *("tasks", "image_size", "protocol", "depth_loss", "label_smoothing", "loss_stride", "precision"),
    *("regression_loss", "edge_weight"),
    *("model", "backbone", "backbone_options", "backbone_width", "backbone_layers", "output_stride"),
    *("head", "head_channels", "head_rates"),
)
# How far the losses (relative) and the gradients (by their norms) of a batched pass may be from those of each network
# by itself. In bfloat16 two kernels differ by its rounding, 0.4 %, in each layer.
CLOSE = {"float32": (1e-3, 1e-2), "auto": (1e-3, 1e-2), "bfloat16": (2e-2, 0.15)}


class Pack:
    """Drives several trainings, each of which comes to the numbers that it comes to alone, but for rounding.

        pack = Pack()
        rows = pack.run([training.epoch() for training in trainings])

    In each round every training is asked for its next pass. Passes that are alike run as one: one forward pass of the
    batched network with the losses, and one backward pass of the sum of what the task weightings make of them. So do
    the optimizers' steps, alike or not. Each training keeps its own data order, random numbers, optimizer, schedule,
    penalty and metrics.

    These are served one after the other: passes of trainings whose weighting looks at gradients, of networks that are
    not alike (such as some that have lost channels), of compiled ones, and of networks that cannot be batched. To know
    the last, the first pass of each kind is served both ways; the numbers of the networks by themselves count. Where
    the device's memory runs out, half as many networks run as one from then on.

    say: is given a line where trainings cannot run as one.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._stacks: dict[tuple[int, ...], _Held] = {}  # by the networks' numbers
        self._structures: dict[int, Hashable] = {}
        self._proven: dict[Hashable, bool] = {}
        self._most = sys.maxsize
        self._share, self._mark, self._active = 0.0, time.perf_counter(), 1
        self.fused = self.alone = 0

    def clock(self) -> float:
        """Seconds of wall time, shared out among the trainings that ran: what each of them took of it."""
        return self._share + (time.perf_counter() - self._mark) / self._active

    def _share_out(self, active: int) -> None:
        """From now on so many trainings share the time."""
        now = time.perf_counter()
        self._share += (now - self._mark) / self._active
        self._mark, self._active = now, active

    def run(self, works: Sequence[Passes[Result]]) -> list[Result]:
        """Drive generators of passes to their ends together, and give what they return.

        Raises the first exception that one of them raised, after all others have ended.
        """
        members = [_Member(passes) for passes in works]
        while active := [one for one in members if not one.ended]:
            self._share_out(len(active))
            asking = [one for one in active if one.go_on()]
            for group in self._grouped([one for one in asking if isinstance(one.asked, Pass)]):
                for one, answer in zip(group, self._serve(group), strict=True):
                    one.answer = answer
            if stepping := [one for one in asking if isinstance(one.asked, Step)]:
                for one, answer in zip(stepping, self._take_steps(stepping), strict=True):
                    one.answer = answer
        self._share_out(1)
        for one in members:
            if one.failed is not None:
                raise one.failed
        return [cast(Result, one.result) for one in members]

    def _grouped(self, asking: Sequence["_Member"]) -> "list[list[_Member]]":
        """Members whose passes are alike, together; the largest groups that there may be."""
        groups: dict[Hashable, list[_Member]] = {}
        for one in asking:
            groups.setdefault(self._kind(one.asked_pass), []).append(one)
        most = self._most
        return [
            group[start : start + most]
            for kind, group in groups.items()
            for start in range(0, len(group), 1 if kind is None else most)
        ]

    def _kind(self, asked: Pass) -> Hashable:
        """Equal for passes that may run as one; None for those that run alone."""
        training = asked.training
        if asked.targets is not None and not isinstance(training.weighting, WeightedSum):
            return None
        if training.config.compile != "off":
            return None
        number = training.network_number
        if number not in self._structures:
            own = tuple(str(getattr(training.config, name)) for name in SHARED)
            self._structures[number] = own, structure(training.model)
        shapes = tuple((name, target.shape) for name, target in (asked.targets or {}).items())
        return self._structures[number], asked.targets is not None, asked.images.shape, shapes

    def _serve(self, group: "Sequence[_Member]") -> Served:
        kind = self._kind(group[0].asked_pass)
        if len(group) == 1 or self._proven.get(kind) is False:
            return self._serve_alone(group)
        trainings = [one.asked.training for one in group]
        drawn = [one.random for one in group]
        stack = self._stack_of(trainings)
        undo = stack.before_pass()
        try:
            answers = self._serve_as_one(group, stack)
            error: Exception | None = None
        except Exception as found:
            error = found.with_traceback(None)  # whose frames hold what the pass has made so far
        if error is None and kind in self._proven:
            self.fused += len(group)
            return list(answers)
        # What the try has left, for the comparison; and then everything as it was before.
        gradients = [_gradients(training) for training in trainings] if error is None else []
        buffers = stack.buffers()
        undo()
        for one, random in zip(group, drawn, strict=True):
            one.random = random
        if isinstance(error, torch.OutOfMemoryError):
            return self._serve_fewer(group)
        served = self._serve_alone(group)
        if error is None:
            error = _difference(trainings, answers, gradients, served)
        if error is None and not any(isinstance(one, Exception) for one in served):
            error = _beyond(_apart(buffers, stack.buffers()), CLOSE[trainings[0].config.precision][1])
        self._proven[kind] = error is None
        if error is not None:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._say(f"{len(group)} trials of a pack train one after the other, as one they cannot: {reason}")
        return served

    def _take_steps(self, group: "Sequence[_Member]") -> Served:
        """The steps of the optimizers; those that somebody listens to, each by itself."""
        trainings = [one.asked.training for one in group]
        if any(one.optimizer.has_hooks for one in trainings):
            return self._serve_alone(group)
        try:
            failures = step_together([one.optimizer for one in trainings])
        except Exception as error:  # it is nobody's own, such as memory that ran out: each goes back to its checkpoint
            return [error] * len(group)
        return [failure or {} for failure in failures]

    def _serve_fewer(self, group: "Sequence[_Member]") -> Served:
        """The same after the device's memory has run out."""
        for one in group:
            one.asked.training.optimizer.zero_grad()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self._stacks.clear()
        half = len(group) // 2
        self._most = max(1, half)
        shown = f"{half} at a time" if half > 1 else "one after the other"
        self._say(f"{len(group)} trials of a pack do not fit into memory as one; they train {shown}")
        return [answer for part in (group[:half], group[half:]) for answer in self._serve(part)]

    def _serve_alone(self, group: "Sequence[_Member]") -> Served:
        served: Served = []
        for one in group:
            self.alone += isinstance(one.asked, Pass)
            try:
                with one:
                    served.append(one.asked.training.serve(one.asked))
            except Exception as error:
                served.append(error)
        return served

    def _serve_as_one(self, group: "Sequence[_Member]", stack: Stack) -> list[Answer]:
        trainings = [one.asked.training for one in group]
        first, passes = trainings[0], [one.asked_pass for one in group]
        images = torch.stack([one.images for one in passes])
        targets = None
        if (given := passes[0].targets) is not None:
            targets = {name: torch.stack([cast(Answer, one.targets)[name] for one in passes]) for name in given}

        def outputs_of(network: Callable[[], Answer], targets: Answer | None) -> Answer:
            if first.config.precision != "bfloat16":
                outputs = network()
            else:
                with Autocast(first.device):
                    outputs = network()
            return outputs if targets is None else first.losses_of(outputs, targets)

        with torch.inference_mode(targets is None):
            found = stack.forward(images, targets, outputs_of, group)
        each: list[Answer] = [
            dict(zip(found, values, strict=True))
            for values in zip(*(value.unbind() for value in found.values()), strict=True)
        ]
        if targets is None:
            return each
        stack.drop_gradients()
        for training in trainings:
            training.weighting.zero_grad()
        weightings = [cast(WeightedSum, training.weighting) for training in trainings]
        if all(one.pure and type(one) is type(weightings[0]) for one in weightings):
            totals = _weighted(weightings, found)
        else:
            drawn = []
            for one, weighting, losses in zip(group, weightings, each, strict=True):
                with one:
                    drawn.append(weighting(losses))
            totals = torch.stack(drawn)
        totals.sum().backward()
        stack.hand_out_gradients()
        return [{name: loss.detach() for name, loss in losses.items()} for losses in each]

    def _stack_of(self, trainings: Sequence[Training]) -> Stack:
        """The stack of these networks; it is made anew where one of them has changed, or is now in another."""
        key = tuple(training.network_number for training in trainings)
        if key not in self._stacks:
            # A network is in one stack alone; and some have ended, or are others by now.
            kept = {other: one for other, one in self._stacks.items() if not set(other) & set(key) and one.lives(other)}
            made = Stack([training.model for training in trainings])
            self._stacks = {**kept, key: _Held(made, [weakref.ref(training) for training in trainings])}
        return self._stacks[key].stack


@dataclass(frozen=True)
class _Held:
    """A stack and the trainings whose networks are in it."""

    stack: Stack
    trainings: "list[weakref.ref[Training]]"

    def lives(self, numbers: Sequence[int]) -> bool:
        """Whether the networks are still those with these numbers."""
        found = [reference() for reference in self.trainings]
        return all(one and one.network_number == number for one, number in zip(found, numbers, strict=True))


@dataclass(eq=False)
class _Member(Generic[Result]):
    """One of the generators that a pack drives. Within `with` torch's random numbers are its own."""

    passes: Passes[Result]
    asked: Asked = field(init=False)
    answer: Answer | Exception | None = None
    ended: bool = False
    result: Result | None = None
    failed: Exception | None = None
    random: list[Tensor] = field(default_factory=lambda: _random())

    @property
    def asked_pass(self) -> Pass:
        return cast(Pass, self.asked)

    def go_on(self) -> bool:
        """Send the answer and take the next pass; False at the end."""
        try:
            with self:
                if isinstance(self.answer, Exception):
                    self.asked = self.passes.throw(self.answer)
                else:
                    self.asked = self.passes.send(cast(Answer, self.answer))
        except StopIteration as end:
            self.result, self.ended = end.value, True
        except Exception as error:
            self.failed, self.ended = error, True
        return not self.ended

    def __enter__(self) -> None:
        torch.set_rng_state(self.random[0])
        for state in self.random[1:]:
            torch.cuda.set_rng_state(state)

    def __exit__(self, *exception: object) -> None:
        self.random = _random()


def _random() -> list[Tensor]:
    """The states of torch's generators: that of the CPU, and that of the GPU where one is in use."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def _weighted(weightings: Sequence[WeightedSum], losses: Answer) -> Tensor:
    """(K,) what each of these, of one kind, makes of its part of the losses, (K,) each; each gets its gradients."""
    states = [dict((*one.named_parameters(), *one.named_buffers())) for one in weightings]
    stacked = {name: torch.stack([one[name] for one in states]) for name in states[0]}
    totals: Tensor = vmap(lambda own, losses: functional_call(weightings[0], own, (losses,)))(stacked, dict(losses))
    return totals


def _gradients(training: Training) -> list[Tensor]:
    parameters = (*training.model.parameters(), *training.weighting.parameters())
    return [p.grad for p in parameters if p.grad is not None]


def _difference(
    trainings: Sequence[Training], answers: Sequence[Answer], gradients: Sequence[list[Tensor]], served: Served
) -> Exception | None:
    """What tells a batched pass from the same passes one after the other, if anything does."""
    for training, batched, before, own in zip(trainings, answers, gradients, served, strict=True):
        if isinstance(own, Exception):
            continue
        of_losses, of_gradients = CLOSE[training.config.precision]
        # Evaluations leave no new gradients; their answers are maps, and compared like gradients.
        now = _gradients(training)
        trained = all(value.ndim == 0 for value in own.values())
        pairs = [([value], [own[name]], of_losses if trained else of_gradients) for name, value in batched.items()]
        for mine, theirs, allowed in [*pairs, *([(before, now, of_gradients)] if trained else [])]:
            if error := _beyond(_apart(mine, theirs), allowed):
                return error
    return None


def _beyond(apart: float, allowed: float) -> Exception | None:
    if apart <= allowed:
        return None
    return ArithmeticError(f"their numbers would be {apart:.2g} apart, relative to their size")


def _apart(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """The norm of the difference over the norm; 0 where numbers that are not finite leave nothing to compare."""
    if len(some) != len(others):
        return float("inf")
    if not some:
        return 0.0
    difference = torch.stack([(a.double() - b.double()).norm() for a, b in zip(some, others, strict=True)]).norm()
    size = torch.stack([b.double().norm() for b in others]).norm()
    found = float(difference / size.clamp(min=1e-12))
    return found if found == found else 0.0
