"""Taskonomy in small: six buildings of two views each, in each of its layouts."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 16)
BUILDINGS = ("allensville", "beechwood", "coffeen", "corozal", "merom", "wiconisco")
DOMAINS = ("rgb", "segment_semantic", "depth_zbuffer", "normal", "edge_texture")
VIEWS = ("point_0_view_1", "point_12_view_0")


def write_taskonomy(root: Path, place: str = "{domain}/{building}") -> Path:
    """Labels 0..3 in columns of four; depths of 1 m, none in the first row; normals (0, 0, 1), grey in the first row;
    edges of texture in the first column, weak ones in the second."""
    labels = np.repeat(np.arange(4, dtype=np.uint8), 4)[None].repeat(SIZE[0], 0)
    depth = np.full(SIZE, 512, np.uint16)
    depth[0] = 65_535
    normals = np.full((*SIZE, 3), 127, np.uint8)
    normals[1:, :, 2] = 255
    edges = np.zeros(SIZE, np.uint16)
    edges[:, 0], edges[:, 1] = 4000, 2000
    for number, building in enumerate(BUILDINGS):
        image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
        for domain, pixels in zip(DOMAINS, (image, labels, depth, normals, edges), strict=True):
            folder = root / place.format(domain=domain, building=building)
            folder.mkdir(parents=True)
            for k, view in enumerate(VIEWS):
                shown = image ^ np.uint8(k) if domain == "rgb" else pixels
                Image.fromarray(shown).save(folder / f"{view}_domain_{domain.replace('segment_', 'segment')}.png")
    return root
