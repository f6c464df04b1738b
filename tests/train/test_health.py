"""What training says of itself: each way to fail is named from logged figures, and good runs are left in peace."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from redoseg.config.recipe import flat, to_values
from redoseg.config.schema import Config
from redoseg.train import health

GOOD: dict[str, Any] = {
    "sizes": [0.7, 0.3],
    "grey": 0.02,
    "critic_real": 0.9,
    "critic_fake": 0.8,
    "latent_read": 0.05,
}


def log(steps: int = 5000, lines: int = 40, **figures: Any) -> list[dict[str, Any]]:
    """A log of so many lines, ending at `steps`."""
    return [GOOD | figures | {"step": steps - 20 * (lines - 1 - i), "restarts": 0} for i in range(lines)]


@pytest.mark.parametrize(
    ("figures", "state"),
    [
        ({}, health.HEALTHY),
        ({"sizes": [0.95, 0.05]}, health.ONE_REGION),
        ({"sizes": [0.05, 0.95]}, health.ONE_REGION),
        ({"sizes": [0.5, 0.44, 0.06]}, health.ONE_REGION),
        ({"sizes": [0.5, 0.42, 0.08]}, health.HEALTHY),  # three regions have less each
        ({"grey": 0.22}, health.GREY),
        ({"critic_real": 0.01, "critic_fake": 0.02}, health.HEALTHY),  # masks and latents do not suffer from it
        ({"critic_real": 0.01, "critic_fake": 0.02, "latent_read": 0.0}, health.DISCRIMINATOR_WINS),
        ({"critic_real": 0.01}, health.HEALTHY),  # still fooled by the fakes
        ({"critic_real": 1e8}, health.DIVERGED),
        ({"critic_real": 0.01, "critic_fake": 0.02, "grey": 0.25}, health.DISCRIMINATOR_WINS),
        ({"latent_read": -0.01}, health.LATENT_IGNORED),
        # the first of several is named: what follows from it is not
        ({"sizes": [0.99, 0.01], "latent_read": -0.01, "critic_real": 0, "critic_fake": 0}, health.ONE_REGION),
    ],
)
def test_states(figures: dict[str, Any], state: str, tiny_config: Config) -> None:
    assert health.state(log(**figures), tiny_config) == state


def test_one_odd_line_is_no_failure(tiny_config: Config) -> None:
    entries = log()
    entries[-1] |= {"sizes": [1.0, 0.0], "grey": 0.25, "latent_read": -0.3, "critic_real": 0.0, "critic_fake": 0.0}
    assert health.state(entries, tiny_config) == health.HEALTHY


def test_what_is_only_early_is_no_failure(tiny: Callable[..., Config]) -> None:
    config = tiny({"optim.extractor_rate": 1e-5, "optim.encoder_rate": 1e-4})
    early = {"grey": 0.24}
    assert health.state(log(2000, **early), config) == health.STARTING
    assert health.state(log(6000, **early), config) == health.GREY
    early = {"latent_read": 0.0}
    assert health.state(log(1000, **early), config) == health.STARTING
    assert health.state(log(3000, **early), config) == health.LATENT_IGNORED
    assert health.state(log(lines=health.WINDOW - 1, sizes=[1.0, 0.0]), config) == health.STARTING


def test_what_is_switched_off_cannot_fail(tiny: Callable[..., Config]) -> None:
    assert health.state(log(latent_read=0.0), tiny({"objective.latent_weight": 0.0})) == health.HEALTHY
    lost = {"critic_real": 0.0, "critic_fake": 0.0}
    assert health.state(log(**lost), tiny({"objective.adversarial_weight": 0.0})) == health.HEALTHY


def test_advice_names_settings_that_exist() -> None:
    known = set(flat(to_values(Config()))) | {"seed"}
    named = {n for text in health.ADVICE.values() for n in re.findall(r"--([a-z]+\.?[a-z-]*)", text)}
    assert len(named) > 5
    for name in named:
        assert any(k == name.replace("-", "_") or (name.endswith(".") and k.startswith(name)) for k in known), name
    assert all("\n" not in text for text in health.ADVICE.values())
