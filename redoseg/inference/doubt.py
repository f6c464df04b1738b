"""Which masks look doubtful, by the network's confidence alone."""

from __future__ import annotations

DOUBTFUL = 0.7  # of a confidence from 0 to 1


def is_doubtful(confidence: float) -> bool:
    """Whether a mask of this confidence (`Prediction.confidence`) should be looked at."""
    return confidence < DOUBTFUL


def many_doubtful(doubtful: int, count: int) -> bool:
    """Whether so many of the pictures are doubtful that the model may be one for other kinds of pictures."""
    return count >= 4 and 3 * doubtful >= count
