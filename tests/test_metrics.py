"""Scores worked out by hand, and the choice of the object region."""

import json

import numpy as np
import pytest

from redoseg.errors import DataError
from redoseg.metrics import bootstrap_interval, object_region, paired, score, score_matched


def square(low: int, high: int, side: int = 8) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def test_figures_by_hand() -> None:
    labels = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 1]]], np.int8)
    objects = np.array([[[1, 0, 1, 0]], [[1, 1, 1, 0]]], bool)
    scores = score(objects, labels)
    assert scores.pictures == 2
    assert scores.ious == pytest.approx([1 / 3, 0])
    assert scores.accuracies == pytest.approx([0.5, 0])
    assert scores.iou == pytest.approx(1 / 6)
    # The second picture is exactly the wrong way round: only the oracle forgives that.
    assert scores.iou_oracle_flip == pytest.approx((1 / 3 + 1) / 2)
    assert scores.accuracy_oracle_flip == pytest.approx(0.75)


def test_the_oracle_flips_each_figure_alone() -> None:
    labels = np.array([[[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]], np.int8)
    # Unflipped: accuracy 0.9 and IoU 0. Flipped: accuracy 0.1 and IoU 0.1.
    scores = score(np.zeros(labels.shape, bool), labels)
    assert scores.accuracy_oracle_flip == pytest.approx(0.9)
    assert scores.iou_oracle_flip == pytest.approx(0.1)


def test_unlabelled_pixels_do_not_count() -> None:
    labels = np.array([[[1, 0, -1, -1]]], np.int8)
    for rest in (True, False):
        scores = score(np.array([[[True, False, rest, rest]]]), labels)
        assert scores.iou == scores.accuracy == 1


def test_pictures_without_labels_are_left_out() -> None:
    labels = np.stack([np.full((4, 4), -1), np.ones((4, 4))]).astype(np.int8)
    scores = score(np.ones((2, 4, 4), bool), labels)
    assert scores.pictures == len(scores.ious) == 1
    assert scores.iou == 1


def test_two_empty_masks_agree() -> None:
    scores = score(np.zeros((1, 4, 4), bool), np.zeros((1, 4, 4), np.int8))
    assert scores.iou == scores.accuracy == 1


def test_every_object_label_is_object() -> None:
    labels = np.array([[[0, 1, 2, 3]]], np.int8)
    assert score(labels > 0, labels).iou == 1


def test_as_dict_is_json() -> None:
    scores = score(np.ones((2, 4, 4), bool), np.ones((2, 4, 4), np.int8))
    expected = {"pictures", "accuracy", "iou", "accuracy_oracle_flip", "iou_oracle_flip"}
    assert set(json.loads(json.dumps(scores.as_dict()))) == expected


@pytest.mark.parametrize("where", [0, 1, 2])
def test_the_object_is_the_region_off_the_border(where: int) -> None:
    inner = square(2, 6)[None].astype(np.float32)
    outer = (1 - inner) / 2
    masks = [outer, outer]
    masks.insert(where, inner)
    assert object_region(np.stack(masks, axis=1)) == where


def test_a_large_object_is_still_the_object() -> None:
    inner = square(1, 7).astype(np.float32)
    assert inner.mean() > 0.5
    assert object_region(np.stack([1 - inner, inner])[None]) == 1


def test_a_thin_frame_does_not_decide() -> None:
    """Padding may draw a line around the background's mask."""
    inner = square(5, 11, side=16).astype(np.float32)
    background = 1 - inner
    background[[0, -1]] = background[:, [0, -1]] = 0
    assert object_region(np.stack([background, 1 - background])[None]) == 1


def test_the_region_is_one_for_the_model() -> None:
    # One picture in four has the regions swapped: the majority decides.
    inner = square(2, 6).astype(np.float32)
    usual, swapped = np.stack([inner, 1 - inner]), np.stack([1 - inner, inner])
    assert object_region(np.stack([usual, usual, usual, swapped])) == 0


def test_a_vanished_region_is_not_the_object() -> None:
    inner = square(2, 6).astype(np.float32)
    assert object_region(np.stack([np.zeros_like(inner), 1 - inner, inner])[None]) == 2


@pytest.mark.parametrize("shape", [(2, 4, 4), (0, 2, 4, 4), (3, 1, 4, 4)])
def test_object_region_needs_all_regions(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="masks have shape"):
        object_region(np.zeros(shape, np.float32))


def test_matching_finds_the_permutation() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (4, 8, 8)).astype(np.int8)
    result = score_matched(np.array([2, 0, 1])[labels], labels, 3)
    assert result == {"iou_matched": 1.0, "accuracy_matched": 1.0, "pictures": 4}


def test_matching_is_one_for_the_set() -> None:
    labels = np.array([[[0, 1, 2, 2]], [[0, 1, 2, 2]]], np.int8)
    regions = np.array([[[0, 1, 2, 2]], [[1, 0, 2, 2]]])
    result = score_matched(regions, labels, 3)
    assert result["accuracy_matched"] == pytest.approx(0.75)
    assert result["iou_matched"] == pytest.approx((1 + 1 / 3) / 2)


def test_matching_leaves_out_unlabelled_pixels() -> None:
    labels = np.array([[[0, 1, 2, -1]], [[-1, -1, -1, -1]]], np.int8)
    regions = np.array([[[0, 1, 2, 0]], [[0, 0, 0, 0]]])
    assert score_matched(regions, labels, 3) == {"iou_matched": 1.0, "accuracy_matched": 1.0, "pictures": 1}


def test_matching_refuses_more_labels_than_regions() -> None:
    labels = np.array([[[0, 1, 3]]], np.int8)
    with pytest.raises(DataError, match="labels are from 0 to 3, but must be from 0 to 2"):
        score_matched(np.zeros((1, 1, 3), np.int64), labels, 3)


@pytest.mark.parametrize(
    ("objects", "labels", "text"),
    [
        (np.zeros((2, 4, 4), bool), np.zeros((2, 8, 8), np.int8), r"\(2, 4, 4\) and labels \(2, 8, 8\)"),
        (np.zeros((4, 4), bool), np.zeros((4, 4), np.int8), "resize the masks to the labels"),
        (np.zeros((1, 4, 4), bool), np.full((1, 4, 4), -1, np.int8), "none of 1 pictures has a label"),
    ],
)
def test_mistakes_are_one_line(objects: np.ndarray, labels: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        score(objects, labels)
    assert "\n" not in str(caught.value)


def test_interval_holds_the_mean_and_narrows() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.random(20), rng.random(2000)
    low, high = bootstrap_interval(few)
    assert low < few.mean() < high
    assert bootstrap_interval(few) == (low, high)
    narrow = bootstrap_interval(many, rounds=500)
    # 1.96 standard errors on each side.
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * many.std() / np.sqrt(2000), rel=0.15)
    with pytest.raises(DataError):
        bootstrap_interval(np.empty(0))


def test_a_paired_test_by_hand() -> None:
    # differences 1, 2 and 3: of 8 choices of signs only +++ and --- are as far from 0
    found = paired(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert found.difference == 2
    assert found.p == 2 / 8
    assert found.interval == bootstrap_interval(np.array([1.0, 2.0, 3.0]))
    assert found.interval[0] >= 1
    # 1, 2, -3 sum to 0: nothing is nearer
    assert paired(np.array([1.0, 2.0, 0.0]), np.array([0.0, 0.0, 3.0])).p == 1
    same = paired(np.ones(40), np.ones(40))
    assert (same.difference, same.interval, same.p) == (0, (0, 0), 1)


@pytest.mark.parametrize("pictures", [9, 12, 30])
def test_a_paired_test_against_scipy(pictures: int) -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(pictures)
    ours, theirs = rng.uniform(size=pictures) + 0.15, rng.uniform(size=pictures)
    exact = pictures <= 12
    expected = permutation_test(
        (ours, theirs),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else 20_000,
        rng=1,
    ).pvalue
    found = paired(ours, theirs)
    assert found.p == pytest.approx(expected, abs=1e-12 if exact else 0.015)
    back = paired(theirs, ours)
    assert back.p == found.p
    assert back.difference == -found.difference
    assert paired(ours, theirs) == found


def test_a_clear_difference_is_never_called_certain() -> None:
    assert paired(np.ones(100), np.zeros(100)).p == 1 / 10_001


@pytest.mark.parametrize(
    ("ours", "theirs"), [(np.ones(3), np.ones(4)), (np.ones(0), np.ones(0)), (np.ones((2, 2)),) * 2]
)
def test_a_paired_test_needs_pairs(ours: np.ndarray, theirs: np.ndarray) -> None:
    with pytest.raises(DataError, match="score both on the same pictures"):
        paired(ours, theirs)
