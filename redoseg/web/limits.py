"""What page and HTTP interface take at most."""

from __future__ import annotations

from dataclasses import dataclass, field

from redoseg.errors import ConfigError
from redoseg.images.read import MAX_PIXELS
from redoseg.system import Room


@dataclass(frozen=True)
class Limits:
    """The largest file and photograph, and the room for all that are worked on at a time."""

    file_bytes: int
    pixels: int
    room: Room = field(default_factory=lambda: Room(MAX_PIXELS))
    """Large photographs wait for each other."""

    @classmethod
    def of(cls, max_mb: float, max_megapixels: float) -> Limits:
        """From MB (of 2**20 bytes, as browsers count them) and million pixels. Raises ConfigError."""
        if not 0 < max_mb <= 1024 or not 0 < max_megapixels <= 110:
            raise ConfigError(
                f"--max-mb is {max_mb:g} and --max-megapixels {max_megapixels:g}. They must be above 0, and at most "
                "1024 MB and 110 million pixels."
            )
        return cls(round(max_mb * 2**20), round(max_megapixels * 1e6))
