"""A drawing taken apart for a page: its panels and its legend's entries, each an `<svg>` that flows like a word."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.figures.drawing import Box, Drawing
from analysis.figures.palette import themed

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
PIXELS = 4 / 3  # a point


@dataclass(frozen=True)
class Parts:
    """The `<svg>` elements, in the reader's colours, with ids that no other drawing has."""

    panels: tuple[str, ...]
    entries: tuple[str, ...]


def parts(drawing: Drawing) -> Parts:
    """Each panel and entry with the clip paths it needs; shapes used by several stay where they are defined."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(themed(drawing.svg))
    groups = {group.get("id", ""): group for group in root.iter(f"{{{SVG}}}g")}
    clips = {path.get("id", ""): _text(path) for path in root.iter(f"{{{SVG}}}clipPath")}

    def cut(kind: str, boxes: Sequence[Box]) -> tuple[str, ...]:
        elements = []
        for place, box in enumerate(boxes):
            content = _text(groups[f"{kind}-{place}"])
            needed = "".join(clips.pop(name) for name in _clips_of(content) if name in clips)
            size = f'width="{box.width * PIXELS:.0f}" height="{box.height * PIXELS:.0f}"'
            view = " ".join(f"{number:.2f}" for number in box)
            svg = (
                f'<svg xmlns="{SVG}" xmlns:xlink="{XLINK}" {size} viewBox="{view}"><defs>{needed}</defs>{content}</svg>'
            )
            elements.append(re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{drawing.name}-", svg))
        return tuple(elements)

    return Parts(cut("panel", drawing.panels), cut("entry", drawing.entries))


def _clips_of(content: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r'clip-path="url\(#([^)]+)\)"', content)))


def _text(element: ElementTree.Element) -> str:
    written = ElementTree.tostring(element, encoding="unicode")
    return written.replace(f' xmlns="{SVG}"', "").replace(f' xmlns:xlink="{XLINK}"', "")
