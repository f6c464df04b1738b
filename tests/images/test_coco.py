"""COCO's format, checked by COCO's own tools."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from redoseg.images.coco import annotated, bounding_box, document


@given(arrays(np.bool_, st.tuples(st.integers(1, 70), st.integers(1, 70))))
def test_codes_are_those_of_pycocotools(mask: np.ndarray) -> None:
    ours = annotated("x.jpg", mask, 0.5)
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours.counts == theirs["counts"].decode()
    assert ours.area == int(coco_mask.area(theirs))
    assert ours.size == mask.shape[::-1]
    if mask.any():
        assert list(bounding_box(mask) or ()) == coco_mask.toBbox(theirs).tolist()
    else:
        assert ours.box is None


def test_long_runs_and_large_masks() -> None:
    mask = np.zeros((3000, 2000), bool)
    mask[5:2900, 700:1500] = True
    mask[:, 1900] = True
    ours = annotated("x.jpg", mask, 0.5)
    assert ours.counts == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_the_whole_file_loads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((40, 30)) > 0.7, np.zeros((8, 9), bool), rng.random((21, 64)) > 0.2]
    whole = document([annotated(f"sub/{i}.jpg", mask, 0.9 - i / 10) for i, mask in enumerate(masks)], "flower")
    (tmp_path / "coco.json").write_text(json.dumps(whole))
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
