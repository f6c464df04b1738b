"""Cut objects out of pictures, learnt without a single mask.

Public names are loaded on first use, so that `import redoseg` costs nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # without typing, whose import takes milliseconds in which no signal is heard

# ONNX Runtime would count itself among those that report home, and leave a file in the temporary folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from typing import Any

    from redoseg.inference.redraw import RedrawModel
    from redoseg.inference.segmenter import Segmenter
    from redoseg.sharing.push import push_to_hub

__version__ = "0.1.0"
__all__ = ["RedrawModel", "Segmenter", "__version__", "push_to_hub"]


def __getattr__(name: str) -> Any:
    if name == "Segmenter":
        from redoseg.inference.segmenter import Segmenter

        return Segmenter
    if name == "RedrawModel":
        from redoseg.inference.redraw import RedrawModel

        return RedrawModel
    if name == "push_to_hub":
        from redoseg.sharing.push import push_to_hub

        return push_to_hub
    raise AttributeError(f"module 'redoseg' has no attribute {name!r}")
