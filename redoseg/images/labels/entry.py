"""What one photograph gives to a file that all photographs share."""

from __future__ import annotations

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A photograph's part of a file."""

    name: str
    """The photograph's, below the folder that all have in common."""
    key: str
    """What it was made of, by which a later run knows whether it is up to date; "" if unknown."""
    data: Any
    """As the file's format has it."""
