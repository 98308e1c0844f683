"""The smallest things that train: random labelled arrays, and a config whose epoch takes a tenth of a second."""

import json
from typing import Any

import numpy as np

from mtl.config import TrialConfig
from mtl.objectives.metrics import metric_infos, primary_metric
from mtl.tasks import Task

TASKS = [
    Task("segmentation", "segmentation", tuple("abcdef")),
    Task("depth", "depth"),
    Task("normals", "normals"),
    Task("light", "classification", ("dark", "dim", "bright")),
    Task("male", "binary"),
]


def config(**fields: Any) -> TrialConfig:
    settings: dict[str, Any] = {
        "dataset": "rooms",
        "image_size": (32, 48),
        "backbone": "resnet18",
        "backbone_width": 8,
        "backbone_layers": (1, 1, 1, 1),
        "head_channels": 8,
        "head_rates": (2, 4),
        "lr": 1e-3,
        "lr_schedule": "one_cycle",
        "batch_size": 8,
        "augmentation": ("flip",),
        "epochs": 3,
        "tasks": tuple(task.name for task in TASKS),
        "strength": 1e-3,
        "seed": 0,
        "data_version": "random",
    }
    return TrialConfig(**settings | fields)


def sweep_file(planned: int) -> bytes:
    """sweep.json of a sweep of these tasks, with so many trials planned."""
    tasks = {task.name: {"primary": primary_metric(task)} for task in TASKS}
    metrics = {
        name: {"direction": info.direction} for task in TASKS for name, info in metric_infos(task, "standard").items()
    }
    objectives = [{"column": "group_sparsity", "direction": "maximize"}]
    fields = {"schema": 1, "name": "s", "recipe": {}, "trials_planned": planned, "objectives": objectives}
    return json.dumps(fields | {"tasks": tasks, "metrics": metrics}).encode()


def arrays(seed: int = 0, train: int = 24) -> dict[Any, dict[str, np.ndarray]]:
    """Images in which depth is the brightness and the class a coarse step of it, to be learnt."""
    rng = np.random.default_rng(seed)

    def split(count: int) -> dict[str, np.ndarray]:
        light = rng.random((count, 4, 6), dtype=np.float32).repeat(8, axis=1).repeat(8, axis=2)
        normals = rng.normal(size=(count, 1, 1, 3)).astype(np.float32) + np.array([0, 0, 3], np.float32)
        normals = np.broadcast_to(normals / np.linalg.norm(normals, axis=-1, keepdims=True), (count, 32, 48, 3)).copy()
        classes = (light * 6).astype(np.uint8).clip(0, 5)
        depth = 1 + 2 * light
        classes[:, :3] = 255
        depth[:, :5] = 0
        normals[:, :, :7] = 0
        return {
            "image": (light[..., None] * 255 * np.ones(3)).astype(np.uint8),
            "segmentation": classes,
            "depth": depth,
            "normals": normals,
            "light": np.digitize(light.mean(axis=(1, 2)), (0.45, 0.55)).astype(np.uint8),
            "male": (light.mean(axis=(1, 2)) > 0.5).astype(np.uint8),
        }

    return {"train": split(train), "val": split(8), "test": split(10)}
