"""Recipes: the paper's settings are the defaults, mistakes are refused in one line, nothing is guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import redoseg
from redoseg.config.recipe import (
    check,
    differences,
    flat,
    from_values,
    load_recipe,
    nested,
    recipe_names,
    to_toml,
    to_values,
)
from redoseg.config.schema import Config
from redoseg.errors import ConfigError
from redoseg.train.players import Discriminator, Redrawer

# what the paper leaves out or leaves unclear, and what the published runs did
PUBLISHED = {
    "batch": 20,
    "data.size": 128,
    "data.value_range": "signed",
    "data.flip": False,
    "nets.regions": 2,
    "nets.latent": 32,
    "nets.extractor_width": 16,
    "nets.generator_width": 32,
    "nets.discriminator_width": 64,
    "nets.encoder_width": 64,
    "nets.generator_attention": True,
    "nets.discriminator_attention": True,
    "nets.norm": "instance",
    "nets.activation": "relu",
    "nets.spectral_norm": True,
    "nets.initialisation": "as-published",
    "nets.initialisation_gain": 0.8,
    "objective.redraw": "each",
    "objective.mask_drawings": True,
    "objective.adversarial": "hinge",
    "objective.adversarial_weight": 1.0,
    "objective.fresh_fakes": True,
    "objective.same_latents": True,
    "objective.other_real": True,
    "objective.latent_weight": 5.0,
    "objective.latent_from": "drawings",
    # what this project adds is off
    "objective.augment": False,
    "objective.floor": 0.0,
    "objective.floor_weight": 0.0,
    "objective.centre_weight": 0.0,
    "objective.centre_steps": 100,
    "objective.border_weight": 0.0,
    "objective.self_redraw_weight": 0.0,
    "objective.self_redraw_colours": "plain",
    "optim.extractor_rate": 1e-5,
    "optim.extractor_decay": 1e-4,
    "optim.generator_rate": 1e-4,
    "optim.encoder_rate": 1e-4,
    "optim.discriminator_rate": 1e-4,
    "optim.beta1": 0.0,
    "optim.beta2": 0.9,
    "watch.restarts": 0,
    "watch.collapse_share": 0.1,
    "watch.collapse_every": 500,
    "watch.collapse_until": 7000,
}


def test_defaults_are_the_published_runs() -> None:
    defaults = flat(to_values(Config()))
    assert {key: defaults[key] for key in PUBLISHED} == PUBLISHED
    objective = {key for key in defaults if key.startswith(("objective.", "nets.", "optim."))}
    assert objective - PUBLISHED.keys() == {
        "optim.average", "optim.extractor_wait", "nets.extractor", "nets.extractor_from", "objective.move",
            "objective.real_penalty", "nets.upsampling",
    }  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_builds(name: str) -> None:
    config = load_recipe(name)
    with torch.device("meta"):
        plain = replace(config, nets=replace(config.nets, initialisation="default", spectral_norm=False))
        assert sum(p.numel() for p in Redrawer(plain).parameters()) > 1000
        assert sum(p.numel() for p in Discriminator(plain).parameters()) > 1000


def test_the_demos_recipe_is_there() -> None:
    assert "shapes" in recipe_names()
    assert load_recipe("shapes").data.source == "shapes"


def test_a_recipes_file_is_the_same_as_its_name() -> None:
    folder = Path(redoseg.__file__).parent / "recipes"
    assert sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.toml")) == recipe_names()
    for name in recipe_names():
        assert load_recipe(str(folder / f"{name}.toml")) == load_recipe(name)


def test_old_names_of_recipes_still_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new = [name for name in recipe_names() if name.startswith("report/")]
    assert len(new) == 4
    for name in new:
        assert load_recipe(name.replace("report/", "seed/")) == load_recipe(name)
    assert not any(name.startswith("seed/") for name in recipe_names())
    # a file of the user's own comes first
    Path("seed").mkdir()
    Path("seed/bce").write_text("steps = 7")
    assert load_recipe("seed/bce") == replace(Config(), steps=7)


def test_values_come_and_go_unchanged(tmp_path: Path) -> None:
    values = {"steps": 7, "optim": {"extractor_rate": 1}, "data": {"source": "a", "flip": True}}
    config = from_values(values, "here")
    assert config.steps == 7
    assert type(config.optim.extractor_rate) is float
    assert config.data == replace(Config().data, source="a", flip=True)
    assert config.nets == Config().nets
    again = from_values(json.loads(json.dumps(to_values(config))), "there")
    assert again == config


def test_differences() -> None:
    old = Config()
    new = replace(old, steps=5, nets=replace(old.nets, norm="batch"))
    assert differences(old, new) == ["steps: 20000 -> 5", "nets.norm: instance -> batch"]
    assert differences(old, old) == []


TOP = ", ".join(sorted(to_values(Config())))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"stepz": 3}, f"R: unknown setting stepz; expected one of {TOP}; did you mean steps?"),
        ({"qqqqqq": 3}, f"R: unknown setting qqqqqq; expected one of {TOP}; remove it"),
        (
            {"optim": {"beta3": 0.1}},
            "R: unknown setting optim.beta3; expected one of average, beta1, beta2, discriminator_rate, encoder_rate, "
            "extractor_decay, extractor_rate, extractor_wait, generator_rate; did you mean optim.beta2?",
        ),
        ({"steps": "many"}, "R: steps is 'many', but must be a whole number; correct it there"),
        ({"steps": 3.0}, "R: steps is 3.0, but must be a whole number; correct it there"),
        ({"steps": True}, "R: steps is True, but must be a whole number; correct it there"),
        ({"data": {"flip": 1}}, "R: data.flip is 1, but must be true or false; correct it there"),
        ({"data": {"source": 3}}, "R: data.source is 3, but must be text; correct it there"),
        ({"optim": {"beta1": "x"}}, "R: optim.beta1 is 'x', but must be a number; correct it there"),
        ({"optim": {"beta1": True}}, "R: optim.beta1 is True, but must be a number; correct it there"),
        ({"optim": {"beta1": float("nan")}}, "R: optim.beta1 is nan, but must be a finite number; correct it there"),
        ({"optim": {"beta1": float("inf")}}, "R: optim.beta1 is inf, but must be a finite number; correct it there"),
        ({"nets": {"norm": "layer"}}, "R: nets.norm is 'layer', but must be one of instance, batch; correct it there"),
        (
            {"nets": {"norm": ["batch"]}},
            "R: nets.norm is ['batch'], but must be one of instance, batch; correct it there",
        ),
        ({"nets": 5}, "R: nets is 5, but must be a table; write its settings below a line [nets]"),
        ({"steps": 0}, "R: steps is 0, but must be at least 1; correct it there"),
        ({"seed": -1}, "R: seed is -1, but must be from 0 to 4.61169e+18; correct it there"),
        ({"seed": 2**62 + 1}, f"R: seed is {2**62 + 1}, but must be from 0 to 4.61169e+18; correct it there"),
        ({"nets": {"regions": 1}}, "R: nets.regions is 1, but must be from 2 to 16; correct it there"),
        ({"optim": {"beta2": 1.0}}, "R: optim.beta2 is 1.0, but must be from 0 to 0.999999; correct it there"),
        ({"optim": {"average": -0.1}}, "R: optim.average is -0.1, but must be from 0 to 0.999999; correct it there"),
        ({"optim": {"encoder_rate": -0.1}}, "R: optim.encoder_rate is -0.1, but must be at least 0; correct it there"),
        (
            {"objective": {"floor": 0.4}, "nets": {"regions": 3}},
            "R: objective.floor is 0.4, but can be at most 0.333 with 3 regions; correct it there",
        ),
        (
            {"objective": {"latent_from": "composites", "redraw": "one"}},
            "R: objective.latent_from composites needs objective.redraw each or object, but it is one; set "
            "objective.redraw to one of these",
        ),
        ({"optim": {"beta1": 10**400}}, f"R: optim.beta1 is {10**400}, but must be a finite number; correct it there"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_values(values, "R")
    assert str(caught.value) == text


@pytest.mark.parametrize("size", [0, 8, 12, 24, 48, 100, 129])
def test_only_sizes_of_four_times_a_power_of_two(size: int) -> None:
    with pytest.raises(ConfigError) as caught:
        check(replace(Config(), data=replace(Config().data, size=size)))
    assert str(caught.value) == (
        f"settings: data.size is {size}, but must be 4 times a power of two, such as 16, 32, 64 or 128; "
        "change --data.size"
    )


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256, 512])
def test_sizes_of_four_times_a_power_of_two(size: int) -> None:
    check(replace(Config(), data=replace(Config().data, size=size)))


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(tmp_path / "none.toml"))
    assert str(caught.value) == (
        f"recipe {tmp_path / 'none.toml'} does not exist; choose a TOML file or one of {', '.join(recipe_names())}"
    )


@pytest.mark.parametrize("content", [b"steps = ", b"= 3", b"\xff\xfe\x00", b"\xfe", b"steps = 1\nsteps = 2"])
def test_broken_toml(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(path))
    text = str(caught.value)
    assert text.startswith(f"recipe {path} is not a TOML file (")
    assert text.endswith("); correct it")
    assert "\n" not in text


def test_a_recipes_file_is_named_in_its_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[nets]\nlatend = 3\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"recipe {path}: unknown setting nets.latend; expected one of ")
    assert str(caught.value).endswith("; did you mean nets.latent?")


def test_a_recipe_file_fills_in_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("steps = 3\n[nets]\nlatent = 3\n")
    expected = replace(Config(), steps=3, nets=replace(Config().nets, latent=3))
    assert load_recipe(str(path)) == expected


def test_a_configuration_survives_being_written_as_a_recipe(tmp_path: Path) -> None:
    for name in recipe_names():
        config = replace(load_recipe(name), seed=7)
        (tmp_path / "again.toml").write_text(to_toml(config))
        assert load_recipe(str(tmp_path / "again.toml")) == config
    assert nested(flat(to_values(config))) == to_values(config)
