"""COCO's format, checked by COCO's own tools."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from redoseg.images.labels.coco import content, entry, run_length_code
from redoseg.images.objects import Described, bounding_box, objects_of


@given(arrays(np.bool_, st.tuples(st.integers(1, 70), st.integers(1, 70))))
def test_codes_are_those_of_pycocotools(mask: np.ndarray) -> None:
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if mask.any():
        (found,) = objects_of(mask)
        assert run_length_code(found, mask.shape[::-1]) == theirs["counts"].decode()
        assert found.area == int(coco_mask.area(theirs))
        assert list(bounding_box(mask) or ()) == list(found.box) == coco_mask.toBbox(theirs).tolist()
    else:
        assert objects_of(mask) == []


def test_long_runs_and_large_masks() -> None:
    mask = np.zeros((3000, 2000), bool)
    mask[5:2900, 700:1500] = True
    mask[:, 1900] = True
    (found,) = objects_of(mask)
    size = mask.shape[::-1]
    assert run_length_code(found, size) == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_the_whole_file_loads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((40, 30)) > 0.7, np.zeros((8, 9), bool), rng.random((21, 64)) > 0.2]
    seen = [
        Described(f"sub/{i}.jpg", mask.shape[::-1], tuple(objects_of(mask)), "flower", "model", 0.9 - i / 10)
        for i, mask in enumerate(masks)
    ]
    (tmp_path / "coco.json").write_bytes(content([entry(one) for one in seen], "flower"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "coco.json")
    assert [entry["file_name"] for entry in coco.loadImgs([1, 2, 3])] == ["sub/0.jpg", "sub/1.jpg", "sub/2.jpg"]
    assert coco.loadCats(1)[0]["name"] == "flower"
    assert coco.getAnnIds(2) == []  # nothing was found there
    for number, mask in ((1, masks[0]), (3, masks[2])):
        (annotation,) = coco.loadAnns(coco.getAnnIds(number))
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()
        assert annotation["score"] == pytest.approx(0.9 - (number - 1) / 10)
