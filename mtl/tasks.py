"""What a task is: its kind decides the shape of its head, its loss and its metrics.

Targets, one image at height H and width W, and the mark of a pixel or image without a label:

    kind            array              dtype     unlabelled
    segmentation    (H, W)             uint8     255 (IGNORE)
    depth           (H, W), metres     float32   0
    normals         (H, W, 3), unit    float32   all three 0
    binary          ()                 uint8     255 (IGNORE)
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["segmentation", "depth", "normals", "binary"]
IGNORE = 255


@dataclass(frozen=True)
class Task:
    """One task of a dataset. `classes` names the classes of a segmentation and is empty otherwise."""

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Numbers that the head predicts per pixel (or per image, for a binary label)."""
        return {"segmentation": len(self.classes), "depth": 1, "normals": 3, "binary": 1}[self.kind]

    @property
    def dense(self) -> bool:
        """Whether the task has a target per pixel."""
        return self.kind != "binary"
