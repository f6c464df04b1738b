"""The built-in pictures: the same for ever, of the difficulty promised, and drawn in any slice or size."""

import hashlib

import numpy as np
import pytest

from redoseg.data.shapes import HELD_OUT_START, LEVELS, OF_SHAPES, generate
from redoseg.errors import DataError

# Frozen. Scores on changed pictures do not compare: a change of the pictures is a new level.
HASHES = {
    ("shapes", 2): "4612ddbb7714a87ac041a46ec002d3669093f023f9cc53f86b6b8cd9dfc114ef",
    ("shapes", 3): "48d633daedf951480d47423d4c17909d154e1c9ddd26860d6bebfbe7c5b3b433",
    ("shapes-hard", 2): "94e89989e1f025a0d3a5328508ff401ce65a71d3b4f9f5c88d4ec5c0d2e104b8",
    ("shapes-hard", 3): "7715f4483bd14a6667d51fc1a55aa4ec5c0c6d67db8d5ae6b6fb334b4de5105a",
    ("leaves", 2): "6be0dc0643b43db51ae29ccebb626a29b20207f741475a3e138b0bdf2e0568cf",
    ("beetles", 2): "b87e21132554d579a14358eadb6e8adcb745b919405b7444f01ce1b07d59838a",
    ("tray", 2): "526c9232eeff7998f7b56b4144c541cbe0868d842d2c4a500b1f19d79ce3eaf9",
}


@pytest.mark.parametrize(("level", "regions"), HASHES)
def test_the_levels_are_frozen(level: str, regions: int) -> None:
    digest = hashlib.sha256()
    for size in (32, 64):
        # Across the boundary, so that training and held-out pictures are both in it.
        for part in generate(level, 8, size, regions=regions, seed=3, start=HELD_OUT_START - 4):
            digest.update(part.tobytes())
    assert digest.hexdigest() == HASHES[level, regions]


ALL = [*((level, 2) for level in LEVELS), *((level, 3) for level in OF_SHAPES)]


@pytest.mark.every(3)
@pytest.mark.parametrize(("level", "regions"), ALL)
def test_arrays(level: str, regions: int) -> None:
    images, labels = generate(level, 64, 32, regions=regions)
    assert images.shape == (64, 32, 32, 3)
    assert labels.shape == (64, 32, 32)
    assert images.dtype == labels.dtype == np.uint8
    for picture in labels:
        assert set(np.unique(picture)) == set(range(regions))


@pytest.mark.parametrize("level", LEVELS)
def test_any_slice_alone_is_the_same(level: str) -> None:
    images, labels = generate(level, 10, 32, seed=5)
    for start in (0, 3, 9):
        alone, its_labels = generate(level, 1, 32, seed=5, start=start)
        assert np.array_equal(alone[0], images[start])
        assert np.array_equal(its_labels[0], labels[start])


def test_seeds_and_varieties_differ() -> None:
    first = generate("shapes", 4, 32)[0]
    assert not np.array_equal(first, generate("shapes", 4, 32, seed=1)[0])
    assert not np.array_equal(first, generate("shapes", 4, 32, regions=3)[0])
    assert not np.array_equal(first, generate("shapes-hard", 4, 32)[0])


@pytest.mark.every(3)
@pytest.mark.parametrize(("level", "regions"), ALL)
def test_the_same_scene_at_every_size(level: str, regions: int) -> None:
    small, small_labels = generate(level, 16, 32, regions=regions)
    large, large_labels = generate(level, 16, 128, regions=regions)
    reduced = large.reshape(16, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(reduced - small).mean() < (6 if level in OF_SHAPES else 12)  # the others have finer texture
    assert (large_labels[:, 1::4, 1::4] != small_labels).mean() < 0.03


@pytest.mark.parametrize("level", OF_SHAPES)
def test_objects_vary_in_size_and_place(level: str) -> None:
    objects = generate(level, 400, 32)[1] > 0
    areas = objects.mean(axis=(1, 2))
    assert areas.min() > 0.04
    assert areas.max() < 0.46
    assert areas.std() > 0.06
    border = np.ones((32, 32), bool)
    border[1:-1, 1:-1] = False
    assert 0.1 < objects[:, border].any(axis=1).mean() < 0.3
    places = np.array([np.argwhere(o).mean(axis=0) for o in objects]) / 32
    assert (places.std(axis=0) > 0.1).all()


@pytest.mark.parametrize("level", LEVELS[2:4])
def test_leaves_and_beetles_vary_and_are_thin_in_places(level: str) -> None:
    objects = generate(level, 24, 64)[1] > 0
    areas = objects.mean(axis=(1, 2))
    assert areas.min() > 0.01
    assert areas.max() < 0.5
    assert areas.std() > 0.03
    inner = (
        objects[:, 1:-1, 1:-1]
        & objects[:, :-2, 1:-1]
        & objects[:, 2:, 1:-1]
        & objects[:, 1:-1, :-2]
        & objects[:, 1:-1, 2:]
    )
    assert (inner.sum((1, 2)) / objects.sum((1, 2))).mean() < 0.9  # stems, teeth and legs are mostly edge


def test_new_kinds_have_one_object() -> None:
    with pytest.raises(DataError, match="'beetles' have one object; set regions to 2, or choose shapes"):
        generate("beetles", 1, 32, regions=3)


@pytest.mark.parametrize("size", [32, pytest.param(64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("level", OF_SHAPES)
def test_difficulty(level: str, size: int) -> None:
    baselines = pytest.importorskip("redoseg.evaluation.baselines")
    pytest.importorskip("cv2")
    images, labels = generate(level, 128, size, start=HELD_OUT_START)
    grabcut = "grabcut:inset=0.125"  # its usual rectangle is what the level was made for
    beside = baselines.beside(images, labels.astype(np.int8), ("kmeans", grabcut))
    rows = {name: scores.iou for name, scores in beside.items()}
    if level == "shapes":
        assert max(rows["mean mask"], rows["centred disc"]) < 0.5
        assert rows["kmeans"] > 0.9
    else:
        assert max(rows["mean mask"], rows["centred disc"]) <= 0.45
        assert rows["kmeans"] <= 0.65
        # 512 held-out pictures give 0.54 at 32 px and 0.75 at 64 px; 128 scatter by 0.04.
        assert 0.5 - 0.04 <= rows[grabcut] <= 0.8


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"level": "circles"}, "called 'circles'; choose one of shapes, shapes-hard"),
        ({"regions": 4}, "but 4 are requested; set regions to 2 or 3"),
        ({"regions": 1}, "set regions to 2 or 3"),
        ({"size": 2}, "at least 4 px, but 2 px are requested"),
        ({"start": -1}, "none may be negative"),
    ],
)
def test_mistakes_are_reported(arguments: dict[str, object], text: str) -> None:
    everything: dict[str, object] = {"level": "shapes", "count": 1, "size": 32, **arguments}
    with pytest.raises(DataError, match=text):
        generate(**everything)  # type: ignore[arg-type]
