"""What the page offers for cut-outs: the ground, the part that is shown, and the format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from redoseg.errors import ConfigError, DataError
from redoseg.images.backdrop import BLUR, Ground, ground_of
from redoseg.images.packing import ImageFormat
from redoseg.inference.request import MOST_SQUARE, Request
from redoseg.inference.results import MARGIN

TRANSPARENT, COLOUR, PICTURE = "transparent", "a colour", "a picture"
GROUNDS = (TRANSPARENT, "white", "black", COLOUR, "blurred", PICTURE)
WHOLE, BOX, SQUARE = "the photograph", "the object", "a square"
FRAMES = (WHOLE, BOX, SQUARE)
SIDE = 1000  # of a square, until somebody chooses another [pixels]
MOST_MARGIN = 0.5
FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_RGB = re.compile(
    r"rgba?\(([\d.]+), *([\d.]+), *([\d.]+)(?:, *[\d.]+)?\)"
)  # as colour pickers of some browsers give it


@dataclass(frozen=True)
class CutOut:
    """How the cut-outs of a page look. Raises ConfigError or DataError, one line, for what it does not offer."""

    ground: Any = TRANSPARENT
    colour: Any = "#ffffff"
    picture: Any = None
    """The path of an uploaded picture."""
    frame: Any = WHOLE
    side: Any = SIDE
    margin: Any = MARGIN
    form: Any = "png"

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.ground, GROUNDS, "ground"),
            (self.frame, FRAMES, "part to show"),
            (self.form, FORMATS, "format"),
        ):
            if value not in known:
                raise ConfigError(f"The {what} is {str(value)[:40]!r}, but must be one of {', '.join(known)}.")
        if self.ground == PICTURE and not self.picture:
            raise DataError("There is no picture for the ground yet. Upload one, or choose another ground.")
        if self.form == "jpg" and self.ground == TRANSPARENT:
            raise ConfigError("JPEG has no transparency. Choose a ground, or WebP.")
        if self.frame == SQUARE:
            number_of(self.side, 16, MOST_SQUARE, "The side of the square")
        if self.frame != WHOLE:
            number_of(self.margin, 0, MOST_MARGIN, "The margin")

    def request(self, read: Callable[[Path], Ground]) -> Request:
        """What a segmenter is asked for. `read` opens the picture of a ground."""
        framed = self.frame != WHOLE
        return Request(
            kinds=("cutout",),
            ground=self._ground(read),
            crop=self.frame == BOX,
            square=int(self.side) if self.frame == SQUARE else 0,
            margin=float(self.margin) if framed else None,
            form=self.form,
        )

    def _ground(self, read: Callable[[Path], Ground]) -> Ground | None:
        if self.ground == TRANSPARENT:
            return None
        if self.ground == PICTURE:
            return read(Path(self.picture))
        if self.ground == COLOUR:
            return ground_of(_colour(self.colour))
        return Ground(BLUR) if self.ground == "blurred" else ground_of({"white": "#ffffff"}.get(self.ground, "#000000"))


def number_of(value: Any, least: float, most: float, what: str) -> float:
    """A number that a field of the page gave. Raises ConfigError for anything else, or one out of range."""
    if isinstance(value, (int, float)) and least <= value <= most:
        return float(value)
    raise ConfigError(f"{what} is {str(value)[:40]!r}, but must be a number from {least:g} to {most:g}.")


def _colour(text: Any) -> str:
    """A colour as #rrggbb. Only numbers pass: a text that is a path must not be opened."""
    if isinstance(text, str) and _HEX.fullmatch(text):
        return text
    found = _RGB.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ConfigError(f"The colour is {str(text)[:40]!r}, but must be one such as #ff8800. Choose it again.")
    return "#" + "".join(f"{min(255, round(float(part))):02x}" for part in found.groups())
