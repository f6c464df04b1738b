"""Cut objects out of pictures, learnt without a single mask.

Public names are loaded on first use, so that `import redoseg` costs nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime would count itself among those that report home, and leave a file in the temporary folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from redoseg.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = ["Segmenter", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Segmenter":
        from redoseg.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'redoseg' has no attribute {name!r}")
