"""What a model says of one image, as a script uses it and a notebook shows it."""

import base64
import html
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 240  # of each picture in a notebook, in pixels


@dataclass(frozen=True)
class Predicted:
    """A prediction for one image.

    Attributes:
        image: (H, W, 3) uint8.
        maps: of each dense task: classes (H, W) uint8, depth (H, W) float32 in metres, unit normals (H, W, 3) float32.
        probabilities: of each other task, by class; of a binary task, of yes.
        pictures: of each dense task its map in colours, with what these mean below it.
    """

    image: NDArray[np.uint8]
    maps: Mapping[str, NDArray]
    probabilities: Mapping[str, Mapping[str, float]]
    pictures: Mapping[str, Image.Image]

    def __repr__(self) -> str:
        """Short: a notebook keeps it beside the pictures."""
        height, width = self.image.shape[:2]
        return f"Predicted({', '.join([*self.maps, *self.probabilities])} of {height} × {width} pixels)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the image and the pictures side by side, and the probabilities."""
        shown = {"image": Image.fromarray(self.image), **self.pictures}
        figures = "".join(
            f'<figure style="margin: 0"><img src="{_as_url(picture)}" width="{WIDTH}" alt="{html.escape(name)}" '
            f'style="image-rendering: pixelated"/><figcaption>{html.escape(name)}</figcaption></figure>'
            for name, picture in shown.items()
        )
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self._in_words())
        return f'<div><div style="display: flex; flex-wrap: wrap; gap: 12px">{figures}</div>{lines}</div>'

    def _in_words(self) -> Iterator[str]:
        for task, shares in self.probabilities.items():
            yield f"{task}: {', '.join(f'{name} {share:.2f}' for name, share in shares.items())}"


def _as_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
