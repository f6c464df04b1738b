"""Frames as a film: a looping GIF, or an MP4. MP4 needs PyAV, the part `video` of redoseg."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from PIL import Image

from redoseg.errors import MissingError
from redoseg.images.draw import grid

Film = Literal["gif", "mp4"]
LARGEST: dict[Film, int] = {"gif": 360, "mp4": 720}
"""Longer side of the frames [pixels]; a GIF stores each of them whole."""

_FRAME_MS = 70
_QUALITY = 18  # x264's constant rate factor; 18 looks like the frames
_DOTS = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) - 8  # Bayer's, in grey levels


def check_film(film: Film) -> None:
    """Raises MissingError where what writes such a film is not installed."""
    if film == "mp4":
        pyav()


def film_of(frames: Sequence[Image.Image], film: Film) -> bytes:
    """The file of a film. Frames (RGB) are of one size, of which an MP4 has the even part. Raises MissingError."""
    return {"gif": _gif, "mp4": _mp4}[film](frames)


def pyav(what: str = "MP4 needs") -> Any:
    """The module av. Raises MissingError, which says what needs it."""
    try:
        import av
    except ImportError:
        raise MissingError.of(f"{what} PyAV, which", "video") from None
    return av


def _mp4(frames: Sequence[Image.Image]) -> bytes:
    av, buffer = pyav(), io.BytesIO()
    width, height = (side // 2 * 2 for side in frames[0].size)  # the format of colours that all players have
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("h264", rate=Fraction(1000, _FRAME_MS), options={"crf": str(_QUALITY)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            still = av.VideoFrame.from_image(frame.crop((0, 0, width, height)))
            file.mux(stream.encode(still))
        file.mux(stream.encode())
    return buffer.getvalue()


def _gif(frames: Sequence[Image.Image]) -> bytes:
    """One palette and a pattern of dots that stays in place, so that what is kept does not flicker."""
    some = frames[:: -(-len(frames) // 16)]
    palette = grid([some], gap=0).quantize(256, Image.Quantize.MEDIANCUT)
    width, height = frames[0].size
    pattern = np.tile(_DOTS, (height // 4 + 1, width // 4 + 1))[:height, :width, None]
    paletted = []
    for frame in frames:
        dotted = (np.asarray(frame) + pattern).clip(0, 255).astype(np.uint8)
        paletted.append(Image.fromarray(dotted).quantize(palette=palette, dither=Image.Dither.NONE))
    buffer, rest = io.BytesIO(), paletted[1:]
    paletted[0].save(buffer, "GIF", save_all=True, append_images=rest, duration=_FRAME_MS, loop=0, optimize=False)
    return buffer.getvalue()
