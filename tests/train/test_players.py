"""The two players: whose weights move, under which setting, and towards what."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from redoseg.bench.reference_step import plain_settings, plain_state
from redoseg.config.schema import Config, NetConfig, ObjectiveConfig, OptimConfig, SpeedConfig
from redoseg.data import ImageSet, open_shapes
from redoseg.study.run import load_study
from redoseg.train.loader import ImageStore
from redoseg.train.loop import Hooks, train
from redoseg.train.players import Discriminator, MovingAverage, Redrawer
from redoseg.train.state import TrainState

Tiny = Callable[..., Config]
PARTS = ("extractor", "generators", "encoder", "critic", "average")


def batch(config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, latents, chosen regions."""
    generator = torch.Generator().manual_seed(5)
    pictures = torch.rand(4, 3, config.data.size, config.data.size, generator=generator) * 2 - 1
    latents = torch.randn(4, config.nets.regions, config.nets.latent, generator=generator)
    return pictures, latents, torch.tensor([0, 1, 1, 0])


def players(config: Config) -> tuple[Redrawer, Discriminator]:
    torch.manual_seed(0)
    return Redrawer(config), Discriminator(config)


@functools.cache
def shapes(size: int, count: int) -> ImageSet:
    return open_shapes("shapes", size, regions=2, split="train", count=count)


def first_updates(config: Config, steps: int = 1) -> dict[str, dict[str, Tensor]]:
    """The parameters of each part after the loop's first steps."""
    pictures = shapes(config.data.size, config.data.pictures)
    device = torch.device("cpu")
    hooks = Hooks(log=lambda _: None, sample=lambda *_: None, save=lambda _: None, stop=lambda: False)
    state = TrainState.fresh(config, device)
    state.config = config
    state = train(state, ImageStore(pictures, config, device), None, hooks)
    assert state.step == config.steps == steps
    nets = {
        "extractor": state.redrawer.extractor,
        "generators": state.redrawer.generators,
        "encoder": state.redrawer.encoder,
        "critic": state.discriminator,
        "average": state.average.nets,
    }
    return {
        part: {k.replace("parametrizations.weight.original", "weight"): p for k, p in net.named_parameters()}
        for part, net in nets.items()
    }


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---------------------------------------------------------------------------------------------- gradients


def test_the_redrawer_leaves_no_gradient_on_the_critic(tiny_config: Config) -> None:
    redrawer, discriminator = players(tiny_config)
    redrawer(*batch(tiny_config), discriminator)["total"].backward()
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.requires_grad for p in discriminator.parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in redrawer.parameters())
    for net in (redrawer.extractor, *redrawer.generators, redrawer.encoder):
        assert max(p.grad.abs().max() for p in net.parameters() if p.grad is not None) > 0


def test_the_critic_trains_only_itself(tiny_config: Config) -> None:
    redrawer, discriminator = players(tiny_config)
    pictures, latents, chosen = batch(tiny_config)
    out = redrawer(pictures, latents, chosen, discriminator)
    assert not out["fakes"].requires_grad
    assert not out["latents"].requires_grad
    discriminator(pictures, out["fakes"])["total"].backward()
    assert all(p.grad is None for p in redrawer.parameters())
    assert all(p.grad is not None for p in discriminator.parameters())


# --------------------------------------------------------------------------------------------- objectives


def test_the_papers_objective_written_out(tiny_config: Config) -> None:
    redrawer, discriminator = (p.eval() for p in players(tiny_config))
    pictures, latents, chosen = batch(tiny_config)
    out = redrawer(pictures, latents, chosen, discriminator)
    masks = redrawer.extractor(pictures)
    drawn = [redrawer.generators[k](latents[:, k], masks[:, k : k + 1]) * masks[:, k : k + 1] for k in (0, 1)]
    fakes = torch.cat([drawn[k] + (1 - masks[:, k : k + 1]) * pictures for k in (0, 1)])
    assert torch.allclose(out["fakes"], fakes, atol=1e-6)
    read = redrawer.encoder(drawn[0] + drawn[1]).view(4, 2, 4)
    adversarial, latent = -discriminator.discriminator(fakes).mean(), ((latents - read) ** 2).mean()
    assert out["redrawer"].item() == pytest.approx(adversarial.item(), abs=1e-5)
    assert out["latent"].item() == pytest.approx(latent.item(), rel=1e-5)
    assert out["total"].item() == pytest.approx((adversarial + 5 * latent).item(), rel=1e-5)
    assert torch.allclose(out["sizes"], masks.mean((0, 2, 3)))

    real = discriminator.discriminator(pictures)
    judged = discriminator(pictures, fakes)
    on_fake = F.relu(1 + discriminator.discriminator(fakes)).mean()
    assert judged["critic_real"].item() == pytest.approx(F.relu(1 - real).mean().item(), rel=1e-5)
    assert judged["critic_fake"].item() == pytest.approx(on_fake.item(), rel=1e-5)
    assert judged["total"].item() == pytest.approx((judged["critic_real"] + judged["critic_fake"]).item())


def test_latents_recovered_from_composites(tiny: Tiny) -> None:
    config = tiny({"objective.latent_from": "composites"})
    redrawer, discriminator = (p.eval() for p in players(config))
    pictures, latents, chosen = batch(config)
    out = redrawer(pictures, latents, chosen, discriminator)
    read = [redrawer.encoder(out["fakes"][4 * k : 4 * k + 4]).view(4, 2, 4)[:, k] for k in (0, 1)]
    expected = ((torch.stack(read, 1) - latents) ** 2).mean()
    assert out["latent"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_drawings_may_go_uncut(tiny: Tiny) -> None:
    config = tiny({"objective.mask_drawings": False, "objective.redraw": "object"})
    redrawer, _ = (p.eval() for p in players(config))
    pictures, latents, chosen = batch(config)
    fakes, parts, masks = redrawer.redraw(pictures, latents, chosen)
    drawing = redrawer.generators[0](latents[:, 0], masks[:, :1])
    assert torch.allclose(parts[:, 0], drawing)
    assert torch.allclose(fakes, drawing + (1 - masks[:, :1]) * pictures, atol=1e-6)


def test_extra_terms_are_weighted_and_summed(tiny: Tiny) -> None:
    plain = tiny({"objective.latent_weight": 0.0})
    redrawer, discriminator = (p.eval() for p in players(plain))
    data = batch(plain)
    base = redrawer(*data, discriminator)
    assert "latent" not in base
    masks = redrawer.extractor(data[0])
    read = redrawer.encoder(data[0]).view(4, 2, 4)
    floor = F.relu(1 - masks.mean((2, 3)) / 0.5).mean()
    error = (redrawer.draw(read, masks) - data[0][:, None]).abs().mean(2)
    own = (masks * error).sum(1).mean()
    inner = F.pad(torch.ones(12, 12), (2, 2, 2, 2))
    border = (masks[:, 0] * (1 - inner)).sum((1, 2)).mean() / (1 - inner).sum()
    for settings, expected in (
        ({"objective.floor": 0.5, "objective.floor_weight": 3.0}, 3 * floor),
        ({"objective.self_redraw_weight": 7.0}, 7 * own),
        ({"objective.border_weight": 2.0}, 2 * border),
    ):
        redrawer.config = tiny({"objective.latent_weight": 0.0, **settings}).objective
        extra = redrawer(*data, discriminator)["total"] - base["total"]
        assert extra.item() == pytest.approx(expected.item(), rel=1e-3)
        assert expected.item() > 1e-3


# ---------------------------------------------------------------------------------------------- switches

# setting -> (its new value, parts whose first update must change, parts where it must not, other settings)
ALL = ("extractor", "generators", "encoder", "critic")
REDRAWER = ("extractor", "generators", "encoder")
Case = tuple[Any, tuple[str, ...], tuple[str, ...], dict[str, Any]]
SWITCHES: dict[str, Case] = {
    "precision": ("bfloat16", ALL, (), {}),
    "data.value_range": ("unit", ALL, (), {}),
    "data.flip": (True, ALL, (), {}),
    "objective.redraw": ("one", ("extractor", "generators", "critic"), ("encoder",), {}),
    "objective.mask_drawings": (False, ALL, (), {}),
    "objective.adversarial": ("bce", ("extractor", "generators", "critic"), ("encoder",), {}),
    "objective.adversarial_weight": (3.0, ("extractor", "generators"), ("encoder",), {}),
    "objective.augment": (True, ("extractor", "generators", "critic"), ("encoder",), {}),
    "objective.move": (0.2, ("extractor", "generators", "critic"), ("encoder",), {}),
    "objective.real_penalty": (10.0, ("critic",), REDRAWER, {"steps": 4}),  # each fourth step
    "objective.fresh_fakes": (False, ("critic",), REDRAWER, {}),
    "objective.same_latents": (False, ("critic",), REDRAWER, {}),
    "objective.other_real": (False, ("critic",), REDRAWER, {}),
    "objective.latent_weight": (1.0, ("extractor", "generators"), (), {}),
    "objective.latent_from": ("composites", REDRAWER, (), {}),
    "objective.floor": (0.5, ("extractor",), ("generators", "encoder"), {"objective.floor_weight": 5.0}),
    "objective.floor_weight": (5.0, ("extractor",), ("generators", "encoder"), {"objective.floor": 0.5}),
    "objective.centre_weight": (5.0, ("extractor",), ("generators", "encoder"), {}),
    "objective.centre_steps": (7, ("extractor",), ("generators", "encoder"), {"objective.centre_weight": 5.0}),
    "objective.border_weight": (5.0, ("extractor",), ("generators", "encoder"), {}),
    "objective.self_redraw_weight": (5.0, REDRAWER, (), {}),
    "objective.self_redraw_colours": ("whitened", REDRAWER, (), {"objective.self_redraw_weight": 5.0}),
    "nets.upsampling": ("bilinear", ("extractor", "generators", "critic"), (), {}),
    "nets.regions": (3, ALL, (), {}),
    "nets.latent": (6, ("generators", "encoder"), (), {}),
    "nets.extractor": ("unet", ("extractor",), (), {"data.size": 32}),
    "nets.extractor_width": (6, ("extractor",), (), {}),
    "nets.generator_width": (3, ("generators",), (), {}),
    "nets.discriminator_width": (6, ("critic",), (), {}),
    "nets.encoder_width": (6, ("encoder",), (), {}),
    "nets.generator_attention": (False, ("generators",), (), {}),
    "nets.discriminator_attention": (False, ("critic",), (), {}),
    "nets.norm": ("batch", ALL, (), {}),
    "nets.activation": ("leaky", ALL, (), {}),
    "nets.spectral_norm": (False, ("generators", "encoder", "critic"), (), {}),
    "nets.initialisation": ("everywhere", ("generators", "encoder", "critic"), (), {}),
    "nets.initialisation_gain": (0.7, ALL, (), {}),
    "optim.extractor_rate": (2e-3, ("extractor",), ("generators", "encoder"), {}),
    "optim.extractor_wait": (1, ("extractor",), ("generators", "encoder"), {}),
    "optim.extractor_decay": (1.0, ("extractor",), ("generators", "encoder"), {}),
    "optim.generator_rate": (2e-3, ("generators",), ("extractor", "encoder"), {}),
    "optim.encoder_rate": (2e-3, ("encoder",), ("extractor", "generators"), {}),
    "optim.discriminator_rate": (2e-3, ("critic",), REDRAWER, {}),
    # Adam's corrections for its start make the first update the same: two steps
    "optim.beta1": (0.5, ALL, (), {"steps": 2}),
    "optim.beta2": (0.5, ALL, (), {"steps": 2}),
    "optim.average": (0.0, ("average",), ALL, {}),
}
_done: dict[str, dict[str, dict[str, Tensor]]] = {}


def updates(tiny: Tiny, settings: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    settings = {"steps": 1} | settings
    if str(settings) not in _done:
        _done[str(settings)] = first_updates(tiny(settings), settings["steps"])
    return _done[str(settings)]


@pytest.mark.every(5)
@pytest.mark.parametrize("name", SWITCHES)
def test_switch_changes_the_first_update(name: str, tiny: Tiny) -> None:
    value, changed, same, others = SWITCHES[name]
    before = updates(tiny, others)
    after = first_updates(tiny({"steps": 1} | others | {name: value}), others.get("steps", 1))
    assert {p for p in changed if equal(before[p], after[p])} == set()
    assert {p for p in same if not equal(before[p], after[p])} == set()


def smaller(config: Config) -> Config:
    """The same settings with tiny networks, one step of four pictures."""
    shrunk = {"extractor_width": 4, "generator_width": 2, "discriminator_width": 4, "encoder_width": 4, "latent": 4}
    data = replace(config.data, size=16, pictures=24)
    return replace(config, steps=1, batch=4, precision="float32", data=data, nets=replace(config.nets, **shrunk))


@pytest.mark.slow  # what its rows switch, test_switch_changes_the_first_update switches one by one
def test_every_row_of_the_study_changes_the_first_update() -> None:
    """What is taken away or added in `redoseg study missing` does something, row by row."""
    rows = {row.name: smaller(row.config) for row in load_study("missing").rows}
    bases = {name: first_updates(rows[name]) for name in ("published objective", "bce")}
    idle = []
    for name, config in rows.items():
        base = bases["bce" if name.startswith("bce") else "published objective"]
        after = first_updates(config)
        if all(equal(base[part], after[part]) for part in PARTS):
            idle.append(name)
    assert idle == ["published objective", "bce"]


@pytest.mark.parametrize("redraw", ["object", "together"])
def test_other_ways_to_redraw_change_the_first_update(redraw: str, tiny: Tiny) -> None:
    after = first_updates(tiny({"steps": 1, "objective.redraw": redraw}))
    assert not any(equal(updates(tiny, {})[p], after[p]) for p in ("extractor", "generators", "critic"))


def test_weights_stay_float32_in_bfloat16(tiny: Tiny) -> None:
    after = first_updates(tiny({"steps": 1, "precision": "bfloat16"}))
    assert {p.dtype for part in after.values() for p in part.values()} == {torch.float32}


def test_every_switch_has_a_case() -> None:
    names = {
        f"{table}.{field.name}"
        for table, kind in (("nets", NetConfig), ("objective", ObjectiveConfig), ("optim", OptimConfig))
        for field in fields(kind)
    }
    names.remove("nets.extractor_from")  # of another run: tests/train/test_from_another_run.py
    assert set(SWITCHES) == names | {"precision", "data.value_range", "data.flip"}


WAYS = {"speed.rewrite_convs": False, "speed.channels_last": False, "speed.fused_optimiser": False}


@pytest.mark.every(3)
@pytest.mark.parametrize("name", WAYS)
def test_ways_to_compute_change_rounding_alone(name: str, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)  # all in float64
    acts = []
    others = {"objective.self_redraw_weight": 5.0, "optim.extractor_decay": 0.1}
    found = []
    for settings in (others, others | {name: WAYS[name]}):
        config = tiny(settings)
        state = TrainState.fresh(config, torch.device("cpu"))
        for module in (state.redrawer, state.discriminator):
            module.double()
        acts.append(
            (
                {m.rewritten for m in state.redrawer.modules() if hasattr(m, "rewritten")},
                state.redrawer.encoder.blocks[1].conv1.parametrizations.weight.original.stride(),
                state.redrawer_optimiser.defaults["fused"],
            )
        )
        pictures, latents, chosen = batch(config)
        losses = []
        for _ in range(3):
            out = state.redrawer(pictures.double(), latents.double(), chosen, state.discriminator)
            state.redrawer_optimiser.zero_grad()
            out["total"].backward()
            state.redrawer_optimiser.step()
            losses.append(out["total"].item())
        found.append([*losses, *(p.grad.abs().sum().item() for p in state.redrawer.parameters())])
    assert found[0] == pytest.approx(found[1], rel=1e-7)
    differs = [mine != other for mine, other in zip(*acts, strict=True)]
    assert differs == [name == way for way in ("speed.rewrite_convs", "speed.channels_last", "speed.fused_optimiser")]


def test_the_plain_version_differs_in_power_iterations_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "float", lambda tensor: tensor)  # all in float64
    config = tiny({"objective.self_redraw_weight": 5.0, "objective.real_penalty": 3.0})
    cpu = torch.device("cpu")
    states = TrainState.fresh(config, cpu), plain_state(plain_settings(config), cpu)
    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)
    found = []
    for state in states:
        for module in (state.redrawer, state.discriminator):
            module.double()
        pictures, latents, chosen = batch(config)
        out = state.redrawer(pictures.double(), latents.double(), chosen, state.discriminator)
        out["total"].backward()
        state.discriminator_optimiser.zero_grad()
        judged = state.discriminator(pictures.flip(0).double(), out["fakes"], penalised=True)
        judged["total"].backward()
        nets = (state.redrawer, state.discriminator)
        gradients = [p.grad.abs().sum().item() for net in nets for p in net.parameters()]
        found.append([out["total"].item(), judged["total"].item(), *gradients])
    assert found[0] == pytest.approx(found[1], rel=1e-9, abs=1e-12)


def test_every_way_to_compute_has_a_case() -> None:
    names = {f"speed.{field.name}" for field in fields(SpeedConfig)}
    assert set(WAYS) == names - {"speed.compile"}  # test_compute.py has that one


def test_a_spectral_norm_is_computed_once_a_step(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    redrawer, discriminator = players(tiny({"objective.self_redraw_weight": 5.0}))
    count: Counter[Any] = Counter()
    power = parametrizations._SpectralNorm._power_method

    def counted(self: Any, *arguments: Any) -> None:
        count[self] += 1
        power(self, *arguments)

    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", counted)
    redrawer(*batch(tiny()), discriminator)
    normed = [
        m for net in (redrawer, discriminator) for m in net.modules() if isinstance(m, parametrizations._SpectralNorm)
    ]
    assert {count[norm] for norm in normed} == {1}


def test_only_the_extractor_decays_and_not_decoupled(tiny: Tiny) -> None:
    config = tiny({"optim.extractor_decay": 0.5})
    state = TrainState.fresh(config, torch.device("cpu"))
    groups = state.redrawer_optimiser.param_groups + state.discriminator_optimiser.param_groups
    assert [g["weight_decay"] for g in groups] == [0.5, 0, 0, 0]
    assert isinstance(state.redrawer_optimiser, torch.optim.Adam)
    assert not any(g.get("decoupled_weight_decay") for g in groups)


# --------------------------------------------------------------------------------------- moving average


def test_the_moving_average_follows(tiny_config: Config) -> None:
    redrawer, _ = players(tiny_config)
    average = MovingAverage(redrawer, 0.9)
    name = "down.0.0.weight"
    old = average.nets["extractor"].get_parameter(name).clone()
    with torch.no_grad():
        for p in redrawer.parameters():
            p.add_(1)
        for b in redrawer.generators.buffers():
            b.add_(1)
    average.update(redrawer, 1)  # early on it is shorter: 1 / 11 is kept
    got = average.nets["extractor"].get_parameter(name)
    assert torch.allclose(got, old + 10 / 11, atol=1e-5)
    average.update(redrawer, 10_000)
    assert torch.allclose(got, old + 1 - (1 / 11) * 0.9, atol=1e-5)
    for ours, theirs in zip(average.nets["generators"].buffers(), redrawer.generators.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(p.requires_grad for p in average.nets.parameters())
    assert not average.nets.training


def test_no_moving_average_is_the_networks_themselves(tiny_config: Config) -> None:
    redrawer, _ = players(tiny_config)
    average = MovingAverage(redrawer, 0.0)
    with torch.no_grad():
        for p in redrawer.parameters():
            p.mul_(1.3)
    average.update(redrawer, 5)
    for ours, theirs in zip(average.nets["extractor"].parameters(), redrawer.extractor.parameters(), strict=True):
        assert torch.equal(ours, theirs)
