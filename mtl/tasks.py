"""What a task is: its kind decides the shape of its head, its loss and its metrics.

Targets, one image at height H and width W, and the mark of a pixel or image without a label:

    kind              array              dtype     unlabelled
    segmentation      (H, W)             uint8     255 (IGNORE)
    depth             (H, W), metres     float32   0
    normals           (H, W, 3), unit    float32   all three 0
    classification    ()                 uint8     255 (IGNORE)
    binary            ()                 uint8     255 (IGNORE)

A classification is one of several named classes an image, a binary label a yes (1) or a no (0).
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["segmentation", "depth", "normals", "classification", "binary"]
IGNORE = 255
# Of the backbone's features, and so of the heads' outputs.
OUTPUT_STRIDE = 8


@dataclass(frozen=True)
class Task:
    """One task of a dataset. `classes` names those of a segmentation or a classification and is empty otherwise."""

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Numbers that the head predicts per pixel, or per image where the task is not dense."""
        return {"depth": 1, "normals": 3, "binary": 1}.get(self.kind, len(self.classes))

    @property
    def dense(self) -> bool:
        """Whether the task has a target per pixel."""
        return self.kind not in ("classification", "binary")
