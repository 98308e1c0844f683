"""Every metric of labels and maps against scikit-learn, on whole splits that were given to it batch by batch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn import metrics as sk
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex

from mtl.objectives.losses import align
from mtl.objectives.metrics import METRICS, TaskMetrics, reported
from mtl.tasks import IGNORE, Kind, Task

COUNT, HEIGHT, WIDTH, CLASSES = 9, 6, 5, 4
NAMES = tuple("abcd")
TASKS = {kind: Task("task", kind, NAMES if kind in ("segmentation", "classification") else ()) for kind in METRICS}
# Of unlike sizes, so that a mean over batches is not one over the split.
BATCHES = (1, 5, 3)

# Edges and numbers: see `test_edges_and_numbers`.
MAPS = ("depth", "disparity", "normals")
Split = tuple[torch.Tensor, torch.Tensor]


def scores(said: NDArray[np.integer], kind: Kind, rng: np.random.Generator) -> torch.Tensor:
    """Logits that say these classes; a binary label's lie in [-1, 1], where they look like probabilities."""
    if kind == "binary":
        return torch.from_numpy((2 * said - 1) * rng.uniform(0.01, 1, said.shape)).float()[:, None]
    noise = torch.from_numpy(rng.random((*said.shape, CLASSES))).float()
    return (noise + 2 * F.one_hot(torch.from_numpy(said), CLASSES)).movedim(-1, 1)


def class_split(case: str, kind: Kind) -> Split:
    """Logits and classes, a third of them unlabelled."""
    rng = np.random.default_rng(0)
    shape = (COUNT, HEIGHT, WIDTH) if kind == "segmentation" else (COUNT,)
    classes = 2 if kind == "binary" else CLASSES
    truth, said = (rng.integers(0, classes, shape) for _ in range(2))
    unlabelled = rng.random(shape) < 0.3
    match case:
        case "all labelled":
            unlabelled[:] = False
        case "no label":
            unlabelled[:] = True
        case "an image without a label":
            unlabelled[1] = True
        case "a single label":
            unlabelled[:], unlabelled.flat[7] = True, False
        case "one class only":
            truth[:], said[:] = 1, 1
        case "one class only, never said":
            truth[:], said[:] = 1, 0
        case "the first class only":
            truth[:], said[:] = 0, 0
        case "a class never present":
            truth = np.minimum(truth, classes - 2)
        case "a class neither present nor said":
            truth, said = np.minimum(truth, classes - 2), np.minimum(said, classes - 2)
        case "all wrong":
            said = (truth + 1) % classes
    return scores(said, kind, rng), torch.from_numpy(np.where(unlabelled, IGNORE, truth).astype(np.uint8))


def map_split(case: str, kind: Kind) -> Split:
    """Predictions and depths or normals, a third of them unlabelled."""
    rng = np.random.default_rng(1)
    if kind != "normals":
        truth = rng.uniform(0.5, 10, (COUNT, HEIGHT, WIDTH))
        said = truth * rng.choice([0.5, 0.9, 1.1, 1.2, 1.3, -1], truth.shape)
        wrong = -truth
    else:
        truth = rng.normal(size=(COUNT, HEIGHT, WIDTH, 3))
        truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
        said = 3 * (truth + 0.4 * rng.normal(size=truth.shape))
        wrong = -truth
    unlabelled = rng.random((COUNT, HEIGHT, WIDTH)) < 0.3
    match case:
        case "all labelled":
            unlabelled[:] = False
        case "no label":
            unlabelled[:] = True
        case "an image without a label":
            unlabelled[1] = True
        case "a single label":
            unlabelled[:], unlabelled.flat[7] = True, False
        case "all right":
            said = truth
        case "all wrong":
            said = wrong
    truth = np.where(unlabelled if kind != "normals" else unlabelled[..., None], 0, truth)
    prediction = torch.from_numpy(said[:, None] if kind != "normals" else np.moveaxis(said, -1, 1)).float()
    return prediction, torch.from_numpy(truth).float()


def micro_iou(truth: NDArray, said: NDArray) -> float:
    return sk.jaccard_score(truth, said, average="micro", labels=range(CLASSES))


def of_segmentation(said: NDArray, truth: NDArray, protocol: str) -> dict[str, float]:
    known = truth != IGNORE
    images = [micro_iou(t[k], s[k]) for t, s, k in zip(truth, said, known, strict=True) if k.any()]
    truth, said = truth[known], said[known]
    counts = sk.confusion_matrix(truth, said, labels=range(CLASSES))
    macro = sk.jaccard_score(truth, said, average="macro")  # over the classes that are present or said
    by_torchmetrics = MulticlassJaccardIndex(CLASSES)(torch.from_numpy(said), torch.from_numpy(truth).long())
    assert macro == pytest.approx(float(by_torchmetrics))
    return {
        "miou": macro,
        "iou_micro": float(np.mean(images)) if protocol == "paper" else micro_iou(truth, said),
        "pixel_accuracy": np.trace(counts) / counts.sum(),
    }


def of_classification(said: NDArray, truth: NDArray, protocol: str) -> dict[str, float]:
    truth, said = truth[truth != IGNORE], said[truth != IGNORE]
    values = {"accuracy": sk.accuracy_score(truth, said), "f1": sk.f1_score(truth, said, average="macro")}
    both = torch.from_numpy(said), torch.from_numpy(truth).long()
    assert values["accuracy"] == pytest.approx(float(MulticlassAccuracy(CLASSES, average="micro")(*both)))
    assert values["f1"] == pytest.approx(float(MulticlassF1Score(CLASSES)(*both)))
    return values


def of_binary(said: NDArray, truth: NDArray, protocol: str) -> dict[str, float]:
    truth, said = truth[truth != IGNORE], said[truth != IGNORE]
    f1 = sk.f1_score(truth, said, zero_division=0)
    assert f1 == pytest.approx(float(BinaryF1Score()(torch.from_numpy(said), torch.from_numpy(truth).long())))
    return {"accuracy": sk.accuracy_score(truth, said), "f1": f1}


def of_depth(prediction: NDArray, truth: NDArray, protocol: str) -> dict[str, float]:
    if protocol == "paper":
        truth = truth / np.maximum(truth.max(axis=(1, 2), keepdims=True), 1e-30)
    said, truth = prediction[:, 0][truth > 0], truth[truth > 0]
    factors = [max(p / t, t / p) if p > 0 else math.inf for p, t in zip(said, truth, strict=True)]
    within = {f"delta{power}": float(np.mean([one < 1.25**power for one in factors])) for power in (1, 2, 3)}
    return within | {
        "mae": sk.mean_absolute_error(truth, said),
        "rmse": math.sqrt(sk.mean_squared_error(truth, said)),
        "abs_rel": sk.mean_absolute_percentage_error(truth, said),
        "log10": sk.mean_absolute_error(np.log10(truth), np.log10(np.maximum(said, 1e-3))),
    }


def of_normals(prediction: NDArray, truth: NDArray, protocol: str) -> dict[str, float]:
    known = np.linalg.norm(truth, axis=-1) > 0
    said, truth = np.moveaxis(prediction, 1, -1)[known], truth[known]
    cosine = 1 - sk.pairwise.paired_cosine_distances(truth.astype(np.float64), said.astype(np.float64))
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    within = {f"within_{int(limit)}": float(np.mean(angle < limit)) for limit in (11.25, 22.5, 30.0)}
    return {"cos": cosine.mean(), "mean_angle": angle.mean(), "median_angle": float(np.median(angle))} | within


REFERENCES: dict[Kind, Callable[[NDArray, NDArray, str], dict[str, float]]] = {
    "segmentation": of_segmentation,
    "depth": of_depth,
    "disparity": of_depth,
    "normals": of_normals,
    "classification": of_classification,
    "binary": of_binary,
}
COMMON = ("random", "all labelled", "no label", "an image without a label", "a single label", "all wrong")
CLASS_CASES = (
    *COMMON,
    "one class only",
    "one class only, never said",
    "the first class only",
    "a class never present",
    "a class neither present nor said",
)
CASES = [(kind, case) for kind in REFERENCES for case in ((*COMMON, "all right") if kind in MAPS else CLASS_CASES)]


def measured(task: Task, prediction: torch.Tensor, target: torch.Tensor, protocol: str) -> dict[str, float]:
    """The metrics by their short names, of a split given in batches of unlike sizes."""
    metrics = TaskMetrics(task, protocol)
    for images, labels in zip(prediction.split(BATCHES), target.split(BATCHES), strict=True):
        metrics.update(*align(task, images, labels, protocol))
    return {name.removeprefix(f"{task.name}_"): value for name, value in metrics.compute().items()}


@pytest.mark.parametrize("protocol", ["standard", "paper", "mtan"])
@pytest.mark.parametrize(("kind", "case"), CASES)
def test_metrics_are_scikit_learns(kind: Kind, case: str, protocol: str) -> None:
    task = TASKS[kind]
    split = map_split if kind in MAPS else class_split
    prediction, target = split(case, kind)
    values = measured(task, prediction, target, protocol)
    assert set(values) == set(reported(kind, protocol))
    if case == "no label":
        assert all(math.isnan(value) for value in values.values())
        return
    if kind == "binary":
        said = (prediction[:, 0].sigmoid() > 0.5).long().numpy()
    else:
        said = (prediction.argmax(dim=1) if split is class_split else prediction).numpy()
    expected = REFERENCES[kind](said, target.numpy(), protocol)
    expected = {name: expected[name] for name in values}
    if case in ("all right", "all wrong") and kind == "normals":
        # An angle near 0 or 180° has the square root of its cosine's rounding error.
        assert values.pop("mean_angle") == pytest.approx(expected.pop("mean_angle"), abs=0.1)
    if kind == "normals":
        near = 0.1 if case in ("all right", "all wrong") else 0.006  # half a bin of 0.01°, and rounding
        assert values.pop("median_angle") == pytest.approx(expected.pop("median_angle"), abs=near)
    assert values == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("protocol", ["standard", "paper"])
@pytest.mark.parametrize("kind", ["segmentation", *MAPS])
def test_a_heads_output_is_measured_at_the_protocols_resolution(kind: Kind, protocol: str) -> None:
    """standard: the prediction is enlarged; paper: the target is reduced; both as torch's interpolation does it."""
    task = TASKS[kind]
    _, target = (map_split if kind in MAPS else class_split)("random", kind)
    large = target.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    large[:, 1::3] = 0 if kind in MAPS else IGNORE  # so that pixels of one cell differ
    output = torch.randn(COUNT, task.channels, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    if protocol == "standard":
        prediction = F.interpolate(output, size=large.shape[1:3], mode="bilinear", align_corners=False)
        truth = large
    else:
        prediction = output
        planes = large[:, None].float() if kind != "normals" else large.movedim(-1, 1)
        planes = F.interpolate(planes, size=(HEIGHT, WIDTH), mode="nearest-exact")
        truth = planes[:, 0].to(large.dtype) if kind != "normals" else planes.movedim(1, -1)
    said = (prediction.argmax(dim=1) if kind == "segmentation" else prediction).numpy()
    values, expected = measured(task, output, large, protocol), REFERENCES[kind](said, truth.numpy(), protocol)
    expected = {name: expected[name] for name in values}
    if kind == "normals":
        assert values.pop("median_angle") == pytest.approx(expected.pop("median_angle"), abs=0.006)
    assert values == pytest.approx(expected, rel=1e-4)
