"""Formats of labelling tools, each read by a short reader after its published schema: masks within 1 % of IoU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from redoseg.images.labels import coco, labelme, labelstudio, yolo
from redoseg.images.objects import Described, Found, objects_of
from redoseg.images.polygons import exact_rings, filled, keyholed, one_ring, polygons_of

Bools = NDArray[np.bool_]


def blob(height: int, width: int, seed: int) -> Bools:
    """Several parts with smooth edges, some with holes."""
    values = np.random.default_rng(seed).random((7, 7)).astype(np.float32)
    heights = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))
    mask = heights > 0.5
    mask[height // 2 - 20 : height // 2 + 20, width // 2 - 30 : width // 2 + 30] = True
    mask[height // 2 - 8 : height // 2 + 8, width // 2 - 14 : width // 2 + 14] = False
    return np.asarray(mask)


MASKS = {
    "parts and holes": blob(240, 320, 1),
    "large": blob(700, 500, 2),
    "all of it": np.ones((30, 40), bool),
    "one pixel": np.pad(np.ones((1, 1), bool), ((9, 5), (30, 9))),
    "none": np.zeros((20, 30), bool),
}


def described(mask: Bools, apart: bool = False) -> Described:
    objects = tuple(objects_of(mask, apart))
    return Described(
        "sub/a b.jpg", mask.shape[::-1], objects, "<rose> é", "flowers", 0.91, "k" * 32, "photos", "../a.jpg"
    )


def iou(a: Bools, b: Bools) -> float:
    return float((a & b).sum() / max(1, (a | b).sum())) if (a | b).any() else 1.0


# -------------------------------------------------------------------------------------------------- the readers


def read_yolo(seen: Described) -> list[Bools]:
    """docs.ultralytics.com/datasets/segment: `<class> <x1> <y1> ...` as shares; filled as `polygon2mask` fills them."""
    found = []
    for line in yolo.content(seen).decode().splitlines():
        number, *values = line.split()
        corners = np.array(values, np.float32).reshape(-1, 2)
        assert number == "0"
        assert len(corners) >= 3
        assert corners.min() >= 0
        assert corners.max() <= 1
        mask = np.zeros(seen.size[::-1], np.uint8)
        found.append(cv2.fillPoly(mask, [(corners * seen.size).astype(np.int32)], [1]) > 0)
    return found


def read_labelme(seen: Described) -> list[Bools]:
    """labelme's LabelFile and `shape_to_mask`: shapes of one group are one object."""
    whole = json.loads(labelme.content(seen))
    assert {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"} < set(whole)
    assert (whole["imageWidth"], whole["imageHeight"]) == seen.size
    assert whole["imagePath"] == "../a.jpg"
    of_group: dict[Any, Bools] = {}
    for number, shape in enumerate(whole["shapes"]):
        assert (shape["shape_type"], shape["label"]) == ("polygon", "<rose> é")
        picture = Image.new("1", seen.size)
        ImageDraw.Draw(picture).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
        group = -number - 1 if shape["group_id"] is None else shape["group_id"]
        of_group[group] = of_group.get(group, np.zeros(seen.size[::-1], bool)) | np.asarray(picture)
    return list(of_group.values())


def read_labelstudio(seen: Described) -> list[Bools]:
    """labelstud.io/guide/export: brush labels, whose RLE is that of @thi.ng/rle-pack."""
    (task,) = json.loads(labelstudio.content([labelstudio.entry(seen)], seen.label))
    assert task["data"] == {"image": "/data/local-files/?d=photos/sub/a%20b.jpg"}
    (prediction,) = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("flowers", 0.91)
    found = []
    for result in prediction["result"]:
        assert (result["original_width"], result["original_height"]) == seen.size
        assert (result["type"], result["value"]["format"]) == ("brushlabels", "rle")
        assert result["value"]["brushlabels"] == ["<rose> é"]
        bits = iter("".join(f"{byte:08b}" for byte in result["value"]["rle"]))

        def take(count: int, bits: Iterator[str] = bits) -> int:
            return int("".join(next(bits) for _ in range(count)), 2)

        total, word, lengths = take(32), take(5) + 1, [take(4) + 1 for _ in range(4)]
        values: list[int] = []
        while len(values) < total:
            run, count = take(1), take(lengths[take(2)]) + 1
            values += [take(word)] * count if run else [take(word) for _ in range(count)]
        picture = np.array(values, np.uint8).reshape(*seen.size[::-1], 4)
        assert (picture == picture[..., :1]).all()
        found.append(picture[..., 3] > 0)
    return found


def read_coco(seen: Described) -> list[Bools]:
    """As pycocotools, detectron2 and torchvision read polygons with `iscrowd: 0`."""
    whole = json.loads(coco.content([coco.entry_of_polygons(seen)], seen.label))
    (image,) = whole["images"]
    assert (image["file_name"], image["width"], image["height"]) == (seen.name, *seen.size)
    found = []
    for annotation in whole["annotations"]:
        assert annotation["iscrowd"] == 0
        assert all(len(part) >= 6 and len(part) % 2 == 0 for part in annotation["segmentation"])
        codes = coco_mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
        found.append(coco_mask.decode(coco_mask.merge(codes)) > 0)
        assert found[-1].sum() == pytest.approx(annotation["area"], rel=0.01)
    return found


READERS: dict[str, Callable[[Described], list[Bools]]] = {
    "yolo": read_yolo,
    "labelme": read_labelme,
    "labelstudio": read_labelstudio,
    "coco": read_coco,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("reader", READERS)
def test_the_mask_comes_back(reader: str, mask: str) -> None:
    seen = described(MASKS[mask])
    found = READERS[reader](seen)
    assert len(found) == (1 if MASKS[mask].any() else 0)
    if found:
        assert iou(found[0], MASKS[mask]) >= (1 if reader == "labelstudio" else 0.99)


@pytest.mark.parametrize("reader", READERS)
def test_objects_come_back_one_by_one(reader: str) -> None:
    seen = described(MASKS["parts and holes"], apart=True)
    assert len(seen.objects) > 2
    found = READERS[reader](seen)
    assert len(found) == len(seen.objects)
    for mask, one in zip(found, seen.objects, strict=True):
        if one.area > 400:
            assert iou(mask, one.within(seen.size)) >= 0.98


def test_what_a_later_run_reads_is_what_was_written() -> None:
    seen = [described(MASKS["parts and holes"], apart=True), described(MASKS["none"])]
    for form, entry in ((coco, coco.entry), (coco, coco.entry_of_polygons), (labelstudio, labelstudio.entry)):
        entries = [entry(one) for one in seen]
        again = form.entries_of(form.content(entries, "rose"))
        assert [(one.name, one.key) for one in again] == [(seen[0].name, "k" * 32)] * 2
        assert form.content(again, "rose") == form.content(entries, "rose")
        for foreign in (b"[]"[:1], b'[{"data": {}}]', b'{"images": []}', b"[1]", b"[" * 10**5):
            with pytest.raises((ValueError, RecursionError)):
                form.entries_of(foreign)


def test_names_are_quoted() -> None:
    assert '<Label value="&lt;rose&gt; é"/>' in labelstudio.config("<rose> é").decode()
    assert yolo.data_yaml('a "b"').decode().endswith('names:\n  0: "a \\"b\\""\n')


# ---------------------------------------------------------------------------------------- outlines and objects


@given(arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_outlines_of_any_mask(mask: Bools) -> None:
    shape = mask.shape[0], mask.shape[1]
    assert np.array_equal(filled(exact_rings(mask), shape), mask)
    polygons = polygons_of(mask)
    assert bool(polygons) == mask.any()
    if not polygons:
        return
    whole = filled([ring for part in polygons for ring in (part.outer, *part.holes)], shape)
    assert iou(whole, mask) >= 0.996
    assert np.array_equal(filled([one_ring(polygons)], shape), whole)
    assert np.array_equal(np.any([filled([keyholed(part)], shape) for part in polygons], 0), whole)


@given(arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_objects_of_any_mask(mask: Bools) -> None:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    objects = objects_of(mask, apart=True)
    assert len(objects) == count - 1
    assert [one.area for one in objects] == sorted((one.area for one in objects), reverse=True)
    for one in objects:
        whole = one.within((mask.shape[1], mask.shape[0]))
        assert np.array_equal(whole, labels == labels[whole][0])
        (same,) = objects_of(whole)
        assert same.box == one.box


def test_an_outline_is_short() -> None:
    y, x = np.indices((1000, 1000))
    disc = (x - 500) ** 2 + (y - 500) ** 2 < 400**2
    (part,) = polygons_of(disc)
    assert len(part.outer) < 100
    (found,) = objects_of(disc)
    assert isinstance(found, Found)
    assert found.box == (101, 101, 799, 799)
