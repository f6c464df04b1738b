"""OpenCV, which comes with the extras `compare` and `train`."""

from types import ModuleType

from redoseg.errors import MissingError


def opencv() -> ModuleType:
    """The module cv2. Raises MissingError."""
    try:
        import cv2
    except ImportError:
        raise MissingError(
            "methods to compare with, scores of edges, edges grabcut and refine.sharpen need OpenCV, which is not "
            'installed; run: pip install "redoseg[compare]"'
        ) from None
    module: ModuleType = cv2
    return module
