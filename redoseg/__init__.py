"""Cut objects out of pictures, learnt without a single mask.

Public names are loaded on first use, so that `import redoseg` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redoseg.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = ["Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Segmenter":
        from redoseg.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'redoseg' has no attribute {name!r}")
