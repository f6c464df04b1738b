"""`evaluate --redraw`: real drawings score better than flat ones, and each figure says what it is called."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from redoseg.cli.main import run_command
from redoseg.data import ImageSet
from redoseg.errors import ConfigError, DataError
from redoseg.evaluation import drawings
from redoseg.inference.redraw import Reduced

SIDE, LATENT = 32, 8


def images(count: int = 16) -> ImageSet:
    """Striped squares on grey, each in a colour of its own."""
    rng = np.random.default_rng(1)
    pixels = np.full((count, SIDE, SIDE, 3), 128, np.uint8)
    for i in range(count):
        pixels[i, 4:28, 4:28] = drawn_square(rng.standard_normal(LATENT))
    names = tuple(f"{i}" for i in range(count))
    return ImageSet(
        name="striped",
        size=SIDE,
        regions=2,
        pixels=pixels,
        masks=None,
        names=names,
        splits=("",) * count,
        labelled=np.zeros(count, bool),
    )


def drawn_square(latent: NDArray[Any]) -> NDArray[np.uint8]:
    wave = 90 + 60 * np.sin(np.arange(24) * 1.5 + 3 * latent[0])
    colour = 30 * np.tanh(latent[1:4])
    return np.broadcast_to((wave[None, :, None] + colour).clip(0, 255), (24, 24, 3)).astype(np.uint8)


class Drawer:
    """Stands in for a RedrawModel whose masks are right: `draw` makes the object, `read` the latents again."""

    regions, segmenter = 2, SimpleNamespace(object_region=1)

    def __init__(self, draw: Any, read: Any) -> None:
        self.draw, self.read = draw, read
        self.given: NDArray[np.float32] = np.zeros(0, np.float32)

    def reduced(self, images: Sequence[Image.Image]) -> Reduced:
        seen = np.stack([np.asarray(image) for image in images]).transpose(0, 3, 1, 2).astype(np.float32)
        masks = np.zeros((len(images), 2, SIDE, SIDE), np.float32)
        masks[:, 1, 4:28, 4:28] = 1
        masks[:, 0] = 1 - masks[:, 1]
        return Reduced(seen, masks)

    def random_latents(self, count: int, seed: int) -> NDArray[np.float32]:
        return np.random.default_rng(seed).standard_normal((count, 2, LATENT), dtype=np.float32)

    def object_redrawn(self, images: Reduced, latents: NDArray[np.float32]) -> Reduced:
        self.given = latents if not len(self.given) else self.given
        seen = images.seen.copy()
        for image, latent in zip(seen, latents, strict=True):
            image[:, 4:28, 4:28] = self.draw(latent[1]).transpose(2, 0, 1)
        return Reduced(seen, images.masks)

    def latents_of(self, images: Reduced) -> NDArray[np.float32]:
        return self.read(self.given)

    def pixels(self, images: Reduced) -> NDArray[np.uint8]:
        return images.seen.transpose(0, 2, 3, 1).astype(np.uint8)


def flat(_: NDArray[Any]) -> NDArray[np.uint8]:
    return np.full((24, 24, 3), 90, np.uint8)


def found(monkeypatch: pytest.MonkeyPatch, draw: Any, read: Any, count: int = 16) -> drawings.Drawings:
    monkeypatch.setattr(drawings, "RedrawModel", lambda *_: Drawer(draw, read))
    monkeypatch.setattr(drawings, "open_data", lambda *_, **__: images(count))
    return drawings.evaluate_drawings("some", "striped")


def test_good_drawings_and_flat_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    good = found(monkeypatch, drawn_square, lambda given: given)
    inside = good["texture"]["object"]
    assert inside["real"] < inside["shuffled"]
    assert inside["redrawn"] < (inside["real"] + inside["shuffled"]) / 2
    assert inside["redrawn_spread"] < inside["redrawn"]
    assert 0.7 < good["diversity"] < 1.4
    assert good["latents_recovered"] == pytest.approx(1)
    assert good["pictures"] == 16

    poor = found(monkeypatch, flat, lambda given: given * 0)
    assert poor["texture"]["object"]["redrawn"] > 2 * inside["redrawn"]
    assert poor["texture"]["whole"]["redrawn"] < poor["texture"]["object"]["redrawn"]  # the ground is real
    assert poor["diversity"] == 0
    assert poor["latents_recovered"] < 0.1
    assert poor["texture"]["object"]["real"] == inside["real"]  # what it is compared with does not depend on it


@pytest.mark.slow
def test_what_is_copied_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = found(monkeypatch, lambda _: images().pixels[3, 4:28, 4:28], lambda given: given)
    own = found(monkeypatch, drawn_square, lambda given: given)
    first = np.random.default_rng(0).permutation(16)[:8]
    assert (copied["nearest"] == 0) == (3 in first)
    assert own["nearest"] > 0.5 * own["nearest_real"] > 0


def test_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"striped has 7 pictures in which .* needs 8"):
        found(monkeypatch, flat, lambda given: given, count=7)


def test_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = found(monkeypatch, drawn_square, lambda given: given)
    said = io.StringIO()
    drawings.print_drawings(result, Console(file=said, width=120))
    for figure in (result["texture"]["object"]["redrawn"], result["texture"]["whole"]["real"], result["nearest"]):
        assert f"{figure:.0f}" in said.getvalue()


def test_the_verb_prints_a_table_or_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = found(monkeypatch, drawn_square, lambda given: given)
    assert run_command(["evaluate", "flowers", "striped", "--redraw"]) == 0
    assert "own pixels, shuffled" in capsys.readouterr().out
    assert run_command(["evaluate", "flowers", "striped", "--redraw", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result | {"model": "flowers"}


@pytest.mark.parametrize("option", ["--own-size", "--size 64", "--edges guided", "--picture x.png", "--grounds"])
def test_what_it_cannot_be_combined_with(option: str) -> None:
    with pytest.raises(ConfigError, match="--redraw"):
        run_command(["evaluate", "flowers", "shapes", "--redraw", *option.split()])
