"""The format of Label Studio: one JSON file of tasks, each with a prediction of brush masks and its score.

A mask is a run-length code of the values of an RGBA image, packed into bits (the format of @thi.ng/rle-pack): 32 bits
for the number of values, 5 for the bits of a value less 1, 4 times 4 for how many bits a length may have less 1; then
for each run a 1, two bits that choose among these four, its length less 1, and its value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from redoseg.images.labels.entry import Entry
from redoseg.images.objects import Described, Found

_MADE_BY = "redoseg"
_LENGTHS = (3, 4, 8, 16)  # bits that the length of a run may have
_LONGEST = 2 ** _LENGTHS[-1]
_WORD = 8  # bits of a value


def config(label: str) -> bytes:
    """The labelling interface that the tasks are for, to be pasted into the project's settings."""
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n  <BrushLabels name="tag" toName="image">\n'
        f"    <Label value={quoteattr(label)}/>\n  </BrushLabels>\n</View>\n"
    ).encode()


def entry(seen: Described) -> Entry:
    """The task of a photograph, whose address is that of local files below the folder that has all photographs."""
    path = "/".join(filter(None, (seen.root, seen.name)))
    score = round(seen.confidence, 4)
    results = [_result(seen, one, number, score) for number, one in enumerate(seen.objects, 1)]
    task = {
        "data": {"image": f"/data/local-files/?d={quote(path)}"},
        "meta": {"made_by": _MADE_BY, "picture": seen.name, "redoseg_key": seen.key},
        "predictions": [{"model_version": seen.model, "score": score, "result": results}],
    }
    return Entry(seen.name, seen.key, task)


def _result(seen: Described, one: Found, number: int, score: float) -> dict[str, Any]:
    return {
        "id": f"object-{number}",
        "type": "brushlabels",
        "from_name": "tag",
        "to_name": "image",
        "original_width": seen.size[0],
        "original_height": seen.size[1],
        "image_rotation": 0,
        "score": score,
        "value": {"format": "rle", "rle": run_length_code(one.within(seen.size)), "brushlabels": [seen.label]},
    }


def content(entries: Sequence[Entry], label: str) -> bytes:
    """The file of all tasks."""
    return json.dumps([one.data for one in entries], separators=(",", ":")).encode()


def entries_of(data: bytes) -> list[Entry]:
    """What a file has that `content` made. Raises ValueError for anything else."""
    try:
        found = []
        for task in json.loads(data):
            meta = task["meta"]
            if meta["made_by"] != _MADE_BY:
                raise ValueError("redoseg did not write it")
            found.append(Entry(str(meta["picture"]), str(meta["redoseg_key"]), task))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is damaged ({error!r})") from None
    return found


def run_length_code(mask: NDArray[np.bool_]) -> list[int]:
    """A mask (H, W) as bytes; each pixel has four equal values, 255 where the object is."""
    flat = mask.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = np.diff(ends, prepend=0) * 4
    values = flat[ends - 1].astype(np.uint64) * np.uint64(255)
    pieces = -(-lengths // _LONGEST)  # a long run is several
    of = np.repeat(np.arange(len(lengths)), pieces)
    last = pieces.cumsum() - 1
    size = np.full(len(of), _LONGEST)
    size[last] = lengths - (pieces - 1) * _LONGEST
    which = np.searchsorted(2 ** np.array(_LENGTHS), size)
    bits = np.array(_LENGTHS)[which]
    head = (np.uint64(0b100) | which.astype(np.uint64)) << bits.astype(np.uint64)
    codes = ((head | (size - 1).astype(np.uint64)) << np.uint64(_WORD)) | values[of]
    start = [(flat.size * 4, 32), (_WORD - 1, 5), *((length - 1, 4) for length in _LENGTHS)]
    numbers = np.concatenate([np.array([n for n, _ in start], np.uint64), codes])
    widths = np.concatenate([np.array([w for _, w in start]), 3 + bits + _WORD])
    return _packed(numbers, widths)


def _packed(numbers: NDArray[np.uint64], widths: NDArray[np.int64]) -> list[int]:
    """Numbers of so many bits each, one after another, the highest bit first, as bytes."""
    found: list[NDArray[np.uint8]] = []
    few = 2**16
    for first in range(0, len(numbers), few):
        some, width = numbers[first : first + few], widths[first : first + few]
        place = np.arange(32)
        shift = (width[:, None] - 1 - place).clip(0, 63).astype(np.uint64)
        bits = ((some[:, None] >> shift) & np.uint64(1)).astype(np.uint8)
        found.append(bits[place < width[:, None]])
    packed: list[int] = np.packbits(np.concatenate(found)).tolist()
    return packed
