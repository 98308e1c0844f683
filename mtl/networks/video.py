"""Videos, frame by frame, read and written by PyAV, which is optional: `pip install 'parsimony-mtl[video]'`."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadInput
from mtl.networks.photos import MOST_PIXELS
from mtl.own_code import first_line

if TYPE_CHECKING:
    import av

SUFFIX = ".mp4"
USUAL_RATE = 25  # of a file that does not say, in frames a second
# libx264's scale of quality, from 0, without loss, to 51; 18 looks like the original.
QUALITY = "18"


@dataclass(frozen=True)
class Frame:
    """`pixels`: (H, W, 3) uint8 RGB, upright. `at`: its time since the video's beginning, in seconds."""

    pixels: NDArray[np.uint8]
    at: Fraction


def check_video(path: Path) -> None:
    """Raise BadInput for a file that is no video, and where PyAV is not installed."""
    if importlib.util.find_spec("av") is None:
        raise BadInput(f"video {path}: PyAV is not installed; allowed: after pip install 'parsimony-mtl[video]'")
    frame_rate(path)


def frame_rate(path: Path) -> Fraction:
    """Frames a second. Raises BadInput for a file that is no video."""
    import av

    with _reading(path), av.open(path) as container:
        return _stream(path, container).average_rate or Fraction(USUAL_RATE)


def read_frames(path: Path) -> Iterator[Frame]:
    """All frames in order, one in memory at a time. Raises BadInput where the file turns out to be damaged."""
    import av

    with _reading(path), av.open(path) as container:
        stream = _stream(path, container)
        stream.thread_type = "AUTO"
        step = 1 / (stream.average_rate or Fraction(USUAL_RATE))
        start: Fraction | None = None
        at = -step
        for frame in container.decode(stream):
            if frame.width * frame.height > MOST_PIXELS:
                allowed = f"allowed: at most {MOST_PIXELS / 1e6:.0f} million"
                raise BadInput(f"file {path}: has {frame.width:,} x {frame.height:,} pixels; {allowed}")
            time = None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
            start = time if start is None else start
            since = None if time is None or start is None else time - start
            # Some files have no times, or times that go back: then frames follow each other at the usual rate.
            at = since if since is not None and since > at else at + step
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            yield Frame(np.ascontiguousarray(pixels), at)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise BadInput(f"file {path}: cannot be read as a video ({reason})") from error


def _stream(path: Path, container: "av.container.InputContainer") -> "av.VideoStream":
    if not container.streams.video:
        raise BadInput(f"file {path}: has no pictures; allowed: a video")
    return container.streams.video[0]


class VideoWriter:
    """Frames to a .mp4 file in H.264, each at the time that it is given; without sound.

    The file is whole once it is closed, or the context has ended without an error.
    """

    TICKS = 90_000  # a second; every usual frame rate is a whole number of them

    def __init__(self, path: Path, rate: Fraction) -> None:
        import av

        self._container = av.open(path, "w", format="mp4")
        self._rate = rate.limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        self._last = -1
        self._closed = False

    def add(self, pixels: NDArray[np.uint8], at: Fraction) -> None:
        """(H, W, 3) RGB, all frames of one size; a row or column of white is added where H or W is odd."""
        import av

        height, width = (side + side % 2 for side in pixels.shape[:2])
        if self._stream is None:
            stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": QUALITY})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = Fraction(1, self.TICKS)
            self._stream = stream
        even = np.pad(
            pixels, ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)), constant_values=255
        )
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.time_base = Fraction(1, self.TICKS)
        frame.pts = self._last = max(self._last + 1, round(at * self.TICKS))
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left; the file is whole then."""
        if not self._closed and self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._end()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        self._end()
