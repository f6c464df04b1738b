"""The methods to compare with find an easy object; the floors are what they say they are."""

import builtins
from typing import Any

import cv2
import numpy as np
import pytest

from redoseg.errors import DataError, RedosegError
from redoseg.evaluation import baselines
from redoseg.images import grabcut
from redoseg.metrics import score


def easy(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A red square in the centre of a green field, with a little noise, and its mask."""
    truth = np.zeros((side, side), bool)
    low, high = side // 4, side - side // 4
    truth[low:high, low:high] = True
    picture = np.where(truth[..., None], (200, 60, 50), (40, 120, 70))
    noise = np.random.default_rng(0).integers(-8, 9, (side, side, 3))
    return (picture + noise).astype(np.uint8), truth


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


FLOORS = ("square", "everything")  # they look at nothing


@pytest.mark.parametrize("name", [name for name in baselines.METHODS if name not in FLOORS])
def test_an_easy_object_is_found(name: str) -> None:
    picture, truth = easy()
    mask = baselines.METHODS[name](picture)
    assert mask.shape == truth.shape
    assert mask.dtype == bool
    assert iou(mask, truth) > 0.85


@pytest.mark.parametrize("name", baselines.METHODS)
def test_the_same_picture_gives_the_same_mask(name: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    before = picture.copy()
    first = baselines.METHODS[name](picture)
    assert first.shape == (32, 48)
    assert np.array_equal(first, baselines.METHODS[name](picture))
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("name", baselines.METHODS)
def test_a_picture_of_one_colour_is_no_error(name: str) -> None:
    assert baselines.METHODS[name](np.full((32, 32, 3), 128, np.uint8)).shape == (32, 32)


def test_grabcut_from_a_mask_that_is_off() -> None:
    picture, truth = easy()
    shifted = np.roll(truth, (8, -10), (0, 1))
    assert iou(shifted, truth) < 0.6
    before = shifted.copy()
    assert iou(grabcut.grabcut_from(picture, shifted), truth) > 0.95
    assert np.array_equal(shifted, before)
    # it follows the mask and not the picture's centre: what was called ground stays ground
    assert iou(grabcut.grabcut_from(picture, ~shifted), ~truth) > 0.95
    for nothing_to_learn in (np.zeros_like(truth), np.ones_like(truth)):
        assert np.array_equal(grabcut.grabcut_from(picture, nothing_to_learn), nothing_to_learn)


@pytest.mark.parametrize(("way", "noise"), [("rectangle", 14), ("mask", 6)])
def test_a_thin_object_is_not_smoothed_away_in_a_larger_picture(way: str, noise: int) -> None:
    """OpenCV charges a boundary by the pixel: at its own size this bar is lost, enlarged it is not."""
    y, x = np.mgrid[:24, :24] - 11.5
    truth = (abs(y) < 1.5) & (abs(x) < 9)
    dark = np.where(truth[..., None], 140, 100) + np.random.default_rng(0).normal(0, noise, (24, 24, 3))
    picture = dark.clip(0, 255).astype(np.uint8)
    around = np.maximum(abs(x), abs(y)) < 9.5

    def cut(side: int) -> np.ndarray:
        if way == "mask":
            return grabcut.grabcut_from(picture, around, 5, side)
        return grabcut.grabcut(picture, 0.1, 5, side)

    assert iou(cut(1), truth) < 0.1
    assert iou(cut(96), truth) > 0.95
    assert cut(96).shape == truth.shape
    assert grabcut.grabcut(np.repeat(picture, 2, 1), side=96).shape == (24, 48)


def test_kmeans_takes_the_cluster_off_the_border() -> None:
    picture, truth = easy()
    # The object keeps being the object when the colours change places.
    assert iou(baselines.kmeans(255 - picture), truth) > 0.95


def test_otsu_takes_the_channel_that_separates_best() -> None:
    # the object differs in hue alone, and red has a strong pattern that has nothing to do with it
    truth = np.zeros((64, 64), bool)
    truth[20:44, 16:40] = True
    picture = np.full((64, 64, 3), 100, np.uint8)
    picture[..., 0] = np.random.default_rng(0).integers(60, 140, (64, 64))
    picture[truth, 2] = 160
    assert iou(baselines.otsu(picture), truth) == 1
    dark = picture.copy()
    dark[..., 2] = 260 - picture[..., 2].astype(int)  # now the object is the darker side
    assert iou(baselines.otsu(dark), truth) == 1


def test_otsu_is_its_own_measure_on_a_grey_picture() -> None:
    rng = np.random.default_rng(3)
    grey = np.clip(rng.normal(90, 25, (40, 40)), 0, 255).astype(np.uint8)
    grey[12:28, 12:28] = np.clip(rng.normal(150, 25, (16, 16)), 0, 255)

    def between(cut: int) -> float:
        above = grey > cut
        share = above.mean()
        if share in (0, 1):
            return 0.0
        return float(share * (1 - share) * (grey[above].mean() - grey[~above].mean()) ** 2)

    best = max(range(256), key=between)
    assert np.array_equal(baselines.otsu(np.repeat(grey[..., None], 3, -1)), grey > best)


def test_the_floors_that_look_at_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    assert baselines.everything(picture).all()
    mask = baselines.square(picture)
    assert mask[4:28, 8:56].all()
    assert mask.mean() == (3 / 4) ** 2
    assert baselines.square(picture, margin=0.25).mean() == 1 / 4


def test_a_constant_mask_stretches_with_the_picture() -> None:
    disc = baselines.constant_mask(32, 64, "disc", 0.5)
    assert disc.shape == (32, 64)
    assert disc.dtype == bool
    assert disc.mean() == pytest.approx(np.pi / 16, abs=0.01)
    rows, columns = np.nonzero(disc)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 16, 47)
    corners = ~baselines.constant_mask(32, 64, "disc", 1)
    assert corners[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    assert not corners[:, 31].any()
    assert not corners[15].any()
    assert baselines.constant_mask(32, 64, "disc", 1.5).all()
    square = np.zeros((30, 50), bool)
    square[4:26, 6:44] = True  # an eighth is 3.75 and 6.25 pixels
    assert np.array_equal(baselines.constant_mask(30, 50, "square", 1 / 8), square)
    assert not baselines.constant_mask(30, 50, "square", 0.75).any()


def test_settings_follow_the_name_of_a_method() -> None:
    picture, _ = easy()
    chosen = baselines.method("square:margin=0.25")
    assert (chosen.name, chosen.settings) == ("square", {"margin": 0.25})
    assert np.array_equal(chosen.mask(picture), baselines.square(picture, margin=0.25))
    assert baselines.method("grabcut:rounds=2").settings == {
        "start": "rectangle",
        "inset": 0.02,
        "rounds": 2,
        "side": 1,
    }
    assert baselines.method("grabcut:size=1,start=disc").settings == {
        "start": "disc",
        "size": 1,
        "rounds": 5,
        "side": 1,
    }
    assert baselines.method("grabcut:start=square").settings == {
        "start": "square",
        "size": 0.125,
        "rounds": 5,
        "side": 1,
    }
    assert baselines.method("iem:reach=0.1,rounds=3").settings == {"reach": 0.1, "rounds": 3}
    assert baselines.method("otsu").settings == {}


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ("otsu:cut=3", "has no setting 'cut'. Its settings: none."),
        ("grabcut:rouns=3", "has no setting 'rouns'. Its settings: start=rectangle, inset=0.02, rounds=5, side=1."),
        ("grabcut:", "has no setting ''"),
        ("otsu:", "has no setting ''. Its settings: none."),
        ("square:start=disc", "has no setting 'start'. Its settings: margin=0.125."),
        ("grabcut:start=circle", "start is 'circle', but must be one of rectangle, disc, square."),
        ("grabcut:start", "start is '', but must be one of rectangle"),
        ("grabcut:size=0.5", "has no setting 'size'. Its settings: start=rectangle, inset=0.02, rounds=5, side=1."),
        ("grabcut:start=rectangle,size=0.5", "has no setting 'size'. Its settings: start=rectangle, inset"),
        (
            "grabcut:start=disc,inset=0.1",
            "has no setting 'inset'. Its settings: start=disc, size=0.8, rounds=5, side=1.",
        ),
        (
            "grabcut:inset=0.1,start=square",
            "has no setting 'inset'. Its settings: start=square, size=0.125, rounds=5, side=1",
        ),
        ("grabcut:start=disc,size=1.51", "size is '1.51', but must be a number above 0 and up to 1.5."),
        ("grabcut:start=disc,size=0", "size is '0', but must be a number above 0"),
        ("grabcut:start=disc,size=nan", "size is 'nan', but must be a number above 0"),
        ("grabcut:start=disc,size=big", "size is 'big', but must be a number above 0"),
        ("grabcut:start=square,size=0.5", "size is '0.5', but must be a share between 0 and 0.5."),
        ("grabcut:rounds=0", "rounds is '0', but must be a whole number from 1."),
        ("grabcut:rounds=2.5", "rounds is '2.5', but must be a whole number"),
        ("watershed:centre=0.5", "centre is '0.5', but must be a share between 0 and 0.5."),
        ("square:margin", "margin is '', but must be a share"),
        ("square:margin=nan", "margin is 'nan', but must be a share"),
    ],
)
def test_a_wrong_setting_is_one_line(wanted: str, text: str) -> None:
    with pytest.raises(RedosegError, match=text) as error:
        baselines.method(wanted)
    assert "\n" not in str(error.value)


def at_the_border() -> tuple[np.ndarray, np.ndarray]:
    """A red bar across the picture, from border to border, and its mask."""
    truth = np.zeros((64, 64), bool)
    truth[24:44] = True
    noise = np.random.default_rng(0).integers(-8, 9, (64, 64, 3))
    return (np.where(truth[..., None], (200, 60, 50), (40, 120, 70)) + noise).astype(np.uint8), truth


@pytest.mark.parametrize("wanted", ["start=disc", "start=disc,size=0.5", "start=square", "start=square,size=0.25"])
def test_from_a_disc_or_square_every_pixel_may_change_sides(wanted: str) -> None:
    picture, truth = at_the_border()
    assert iou(baselines.method(f"grabcut:{wanted}").mask(picture), truth) > 0.99
    # what lies outside of a rectangle is ground for good
    outside = baselines.method("grabcut:start=rectangle,inset=0.125").mask(picture)
    assert not outside[:, :8].any()
    assert iou(outside, truth) < 0.8


def test_the_start_and_its_size_decide_which_side_is_the_object() -> None:
    # red in the middle, grey around it, blue at the border: a small start takes the red, a large one grey as well
    y, x = np.mgrid[:64, :64] - 31.5
    away = np.maximum(abs(y), abs(x))
    noise = np.random.default_rng(0).integers(-8, 9, (64, 64, 3))
    colours = np.select([away[..., None] < 12, away[..., None] < 24], [(200, 60, 50), (130, 130, 130)], (40, 70, 200))
    picture = (colours + noise).clip(0, 255).astype(np.uint8)
    for small, large in (("start=disc,size=0.4", "start=disc,size=0.9"), ("start=square,size=0.3", "start=square")):
        assert iou(baselines.method(f"grabcut:{small}").mask(picture), away < 12) > 0.95
        assert iou(baselines.method(f"grabcut:{large}").mask(picture), away < 24) > 0.95


def gradual() -> np.ndarray:
    """From red to blue, off the centre of (64, 96), without an edge: where an object ends depends on every setting."""
    y, x = np.mgrid[:64, :96]
    away = np.hypot((y - 28) / 32, (x - 40) / 48)
    colours = np.stack([220 - 150 * away, 60 + 80 * away, 60 + 100 * away], -1)
    return (colours + np.random.default_rng(0).normal(0, 4, (64, 96, 3))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("kind", "size"), [("disc", 0.6), ("square", 0.25)])
def test_a_free_start_is_the_second_stage_s(kind: Any, size: float) -> None:
    picture, first = gradual(), baselines.constant_mask(64, 96, kind, size)
    mask = baselines.method(f"grabcut:start={kind},size={size},rounds=2,side=128").mask(picture)
    assert np.array_equal(mask, grabcut.grabcut_from(picture, first, 2, 128))
    assert not np.array_equal(mask, grabcut.grabcut_from(picture, first, 1, 128))
    assert not np.array_equal(mask, grabcut.grabcut_from(picture, first, 2, 1))


def test_the_usual_start_is_the_rectangle() -> None:
    picture = gradual()
    found = grabcut.grabcut(picture)
    assert 0 < found.mean() < 1
    for wanted in ("grabcut", "grabcut:start=rectangle"):
        assert np.array_equal(baselines.method(wanted).mask(picture), found)
    assert not np.array_equal(baselines.method("grabcut:start=disc,size=1").mask(picture), found)
    # what masks are kept by: those made before there was a choice of starts stay valid
    assert baselines.method("grabcut:rounds=2").key == "method grabcut 1 [('inset', 0.02), ('rounds', 2), ('side', 1)]"
    assert baselines.method("otsu").key == "method otsu 1 []"
    keys = {baselines.method(f"grabcut:start={start}").key for start in ("rectangle", "disc", "square")}
    assert len(keys) == 3


def settings_of(wanted: str) -> list[dict[str, Any]]:
    return [baselines.method(name).settings for name in baselines.variants(wanted)]


def test_all_starts_are_tried_each_with_its_own_settings() -> None:
    tried = settings_of("grabcut")
    assert len({tuple(sorted(settings.items())) for settings in tried}) == len(tried)
    assert {settings["start"] for settings in tried} == {"rectangle", "disc", "square"}
    for start, key, values in (
        ("rectangle", "inset", {0.02, 0.05}),
        ("disc", "size", {0.5, 0.6, 0.8, 1.0}),
        ("square", "size", {1 / 4, 1 / 8, 1 / 16}),
    ):
        for side in (1, 256):
            of = [settings for settings in tried if (settings["start"], settings["side"]) == (start, side)]
            assert {settings[key] for settings in of} >= values
            assert {settings["rounds"] for settings in of} >= {5}


def test_what_is_given_stays() -> None:
    sizes = {(5, 256, size) for size in (0.5, 0.6, 0.8, 1.0, 1.2)}
    tried = settings_of("grabcut:start=disc,rounds=5,side=256")
    assert {(settings["rounds"], settings["side"], settings["size"]) for settings in tried} == sizes
    assert len(tried) == len(sizes)
    for given in ("rounds=5", "side=256", "side=256,rounds=3", "start=square", "inset=0.1", "start=disc,size=1.1"):
        stays = {key: value for key, value in baselines.method(f"grabcut:{given}").settings.items() if key in given}
        tried = settings_of(f"grabcut:{given}")
        assert len(tried) > 3
        assert all(settings.items() >= stays.items() for settings in tried)
        assert all(name.startswith(f"grabcut:{given}") for name in baselines.variants(f"grabcut:{given}"))
        assert len({tuple(sorted(settings.items())) for settings in tried}) == len(tried)
    assert {settings["start"] for settings in settings_of("grabcut:side=256")} == {"rectangle", "disc", "square"}
    whole = "grabcut:rounds=5,inset=0.1,side=1"
    assert baselines.variants(whole)[0] == whole
    assert baselines.variants("otsu") == ["otsu"]
    assert (0.48, 0.016) in {(s["centre"], s["edge"]) for s in settings_of("watershed")}
    with pytest.raises(RedosegError, match="has no setting 'size'"):
        baselines.variants("grabcut:size=1")


def test_iem_moves_from_where_it_starts_to_an_object_off_centre() -> None:
    picture, truth = easy()
    moved, its_truth = np.roll(picture, (10, -10), (0, 1)), np.roll(truth, (10, -10), (0, 1))
    assert iou(baselines.iem(moved, rounds=0), its_truth) < 0.6
    assert iou(baselines.iem(moved), its_truth) > 0.85


def test_iem_climbs_the_inpainting_error_by_its_true_gradient() -> None:
    rng = np.random.default_rng(0)
    colours, mask = rng.normal(size=(16, 16, 3)), rng.uniform(0.1, 0.9, (16, 16))

    def error(mask: np.ndarray) -> float:
        total = 0.0
        for own in (mask, 1 - mask):
            parts = [
                cv2.GaussianBlur(a, (13, 13), 2, borderType=cv2.BORDER_CONSTANT)
                for a in (colours * (1 - own)[..., None], 1 - own)
            ]
            filled = parts[0] / (parts[1] + 0.01)[..., None]
            total += (own * np.abs(filled - colours).sum(axis=-1)).sum() / own.sum()
        return float(total)

    gain = baselines._gain(colours, mask, sigma=2)
    for pixel in ((3, 4), (8, 8), (0, 15)):
        step = np.zeros_like(mask)
        step[pixel] = 1e-5
        assert gain[pixel] == pytest.approx((error(mask + step) - error(mask - step)) / 2e-5, rel=1e-3)


def test_floors() -> None:
    labels = np.zeros((2, 8, 8), np.int8)
    labels[:, 2:6, 2:6] = 1
    assert baselines.mean_mask(labels).iou == 1
    assert baselines.centred_disc(labels).iou == 1
    assert baselines.centred_disc(np.roll(labels, 2, axis=2)).iou < 0.5
    # Unlabelled pixels say nothing about where objects are.
    labels[0, 2:6, 2:6] = -1
    assert baselines.mean_mask(labels).ious[1] == 1


def test_the_mean_mask_is_cut_where_it_scores_best() -> None:
    labels = np.zeros((3, 4, 4), np.int8)
    labels[0, :2] = labels[1, :2] = labels[2, :, :2] = 1
    mean = (labels > 0).mean(axis=0)
    scores = [score(np.broadcast_to(mean >= cut, labels.shape), labels).iou for cut in (0.3, 0.6, 0.9)]
    assert baselines.mean_mask(labels).iou == pytest.approx(max(scores))


def test_beside_gives_floors_then_methods() -> None:
    picture, truth = easy(32)
    images, labels = np.stack([picture] * 2), np.stack([truth] * 2).astype(np.int8)
    rows = baselines.beside(images, labels)
    assert list(rows) == ["mean mask", "centred disc", "kmeans", "grabcut"]
    assert rows["kmeans"].pictures == 2
    assert rows["kmeans"].iou > 0.9
    assert baselines.beside(images, labels, ("everything",))["everything"].iou == pytest.approx(0.25)
    assert list(baselines.beside(images, labels, methods=())) == ["mean mask", "centred disc"]


def test_a_set_without_labels_has_no_floor() -> None:
    with pytest.raises(DataError, match="none of 2 pictures has a labelled pixel"):
        baselines.mean_mask(np.full((2, 8, 8), -1, np.int8))


def test_mistakes_are_reported() -> None:
    images, labels = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.int8)
    with pytest.raises(RedosegError, match=r"'snakes' does not exist. Choose one of kmeans, watershed"):
        baselines.beside(images, labels, methods=("snakes",))
    with pytest.raises(DataError, match="Resize the labels to the images"):
        baselines.beside(images, labels[:, :4])


@pytest.mark.parametrize("name", [name for name in baselines.METHODS if name not in FLOORS])
def test_without_opencv_the_line_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == "cv2":
            raise ImportError(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RedosegError, match=r'pip install "redoseg\[grabcut\]"'):
        baselines.METHODS[name](np.zeros((8, 8, 3), np.uint8))
