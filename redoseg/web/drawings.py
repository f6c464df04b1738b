"""What the page offers for redrawing: what is drawn, from which latents, and as what."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from redoseg.errors import ConfigError
from redoseg.files import make_folder, write_atomic
from redoseg.images.photo import Photo
from redoseg.inference.animations import Film, film_of
from redoseg.inference.redraw import What
from redoseg.web.cutout import number_of

MOST = 12  # drawings
LIKE = 1024  # longer side of the photograph whose texture is taken; the network sees far less of it [pixels]
REGIONS: tuple[What, ...] = get_args(What)
PICTURES = "pictures"
_FILMS: dict[str, Film] = {"animation (GIF)": "gif", "film (MP4)": "mp4"}

Redraw = Callable[..., list[Image.Image]]
"""As `redoseg.inference.redraw_files.redrawings`, without its model."""


def forms() -> list[str]:
    """As what drawings are shown; a film where PyAV is installed."""
    return [PICTURES, *(name for name, film in _FILMS.items() if film == "gif" or importlib.util.find_spec("av"))]


@dataclass(frozen=True)
class Drawings:
    """What is asked for. Raises ConfigError, one line, for what the page does not offer."""

    count: Any
    seed: Any
    what: Any = "object"
    form: Any = PICTURES

    def __post_init__(self) -> None:
        number_of(self.count, 1, MOST, "The number of redrawings")
        number_of(self.seed, 0, 2**31 - 1, "The seed")
        for value, known, called in ((self.what, REGIONS, "region to redraw"), (self.form, forms(), "form")):
            if value not in known:
                raise ConfigError(f"The {called} is {str(value)[:40]!r}, but must be one of {', '.join(known)}.")

    def made(self, redraw: Redraw, photo: Photo, like: Photo | None, folder: Path) -> list[Any]:
        """The drawings (RGB), or the path of the film that was written below `folder`. Raises RedosegError."""
        film = _FILMS.get(self.form)
        count, seed = int(self.count), int(self.seed)
        drawings = redraw(photo, count=count, seed=seed, what=self.what, like=like, film=film)
        if film is None:
            return drawings
        target = folder / secrets.token_hex(16) / f"redrawn.{film}"
        make_folder(target.parent)
        write_atomic(target, film_of(drawings, film))
        return [str(target)]
