"""How training is doing, judged by its log and never by labels: collapse, and four other ways to fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from redoseg.config.schema import Config, WatchConfig
from redoseg.run_folder import Entry


def looks_due(step: int, watch: WatchConfig) -> bool:
    """Whether collapse is looked for after this step."""
    return step <= watch.collapse_until and step % watch.collapse_every == 0


def least_share(watch: WatchConfig, regions: int) -> float:
    """The size below which one of n regions has collapsed: the setting is for two, more regions have less each."""
    return watch.collapse_share * 2 / regions


def collapsed_region(watch: WatchConfig, *sizes: Sequence[float]) -> int | None:
    """The region that is below the least share in every one of `sizes`, or None.

    `sizes` are the regions' mean soft sizes [share of the picture], on training pictures and, where there are
    any, on those that watch: one odd batch alone is not a collapse.
    """
    for region, shares in enumerate(zip(*sizes, strict=True)):
        if max(shares) < least_share(watch, len(sizes[0])):
            return region
    return None


STARTING, HEALTHY = "starting", "healthy"
ONE_REGION = "one region eats the picture"
GREY = "masks stay grey"
DISCRIMINATOR_WINS = "the discriminator wins"
LATENT_IGNORED = "the latent is ignored"
DIVERGED = "diverged"

NEW_RUN = "start a new run with lower learning rates (--optim.*-rate) or another --seed"
REFINE_AGAIN = "do the second stage again with a lower rate: redoseg refine RUN --refine.rate RATE"
ADVICE = {  # for a new run: one that has begun keeps its settings
    ONE_REGION: "raise --objective.self-redraw-weight or --objective.latent-weight, set --objective.floor 0.1 "
    "--objective.floor-weight 10, or try another --seed",
    GREY: "raise --optim.extractor-rate or --objective.self-redraw-weight",
    DISCRIMINATOR_WINS: "lower --optim.discriminator-rate, raise --optim.generator-rate, and keep --nets.spectral-norm",
    LATENT_IGNORED: "raise --objective.latent-weight or --optim.encoder-rate, or a region may vanish",
    DIVERGED: "lower the learning rates (--optim.*), or try another --seed",
}

WINDOW = 10  # log lines that are judged together
GREYNESS = 0.15  # mean of M (1 - M), which is 0.25 for masks of one half everywhere
# The discriminator's loss, real and fake together: 2 (hinge) or 1.4 (cross-entropy) where it cannot tell them apart.
WON, BEYOND = 0.8, 100.0
READ = 0.01  # share of the latents' spread that the encoder should read at least
# A rate times the steps made at it: before that much, grey masks and an unread latent are only early.
EXTRACTOR_PATH, ENCODER_PATH = 0.04, 0.2


def state(entries: Sequence[Entry], config: Config) -> str:
    """One of the states above, from the last log lines of a run; STARTING while there are fewer than WINDOW."""
    recent = [e for e in entries if "sizes" in e][-WINDOW:]
    if len(recent) < WINDOW:
        return STARTING

    def mean(key: Literal["critic_real", "critic_fake", "grey", "latent_read"]) -> float:
        values = [e[key] for e in recent if key in e]
        return sum(values) / len(values) if values else float("nan")

    step, regions = recent[-1]["step"], len(recent[-1]["sizes"])
    least = min(sum(e["sizes"][k] for e in recent) / len(recent) for k in range(regions))
    judged = mean("critic_real") + mean("critic_fake")
    if judged > BEYOND:
        return DIVERGED
    if least < least_share(config.watch, regions):
        return ONE_REGION
    grey, unread = mean("grey") > GREYNESS, config.objective.latent_weight and mean("latent_read") < READ
    # A discriminator that is never deceived does no harm by itself: good masks have been learnt beside one.
    if config.objective.adversarial_weight and judged < WON and (grey or unread):
        return DISCRIMINATOR_WINS
    if grey:
        return GREY if step * config.optim.extractor_rate >= EXTRACTOR_PATH else STARTING
    if unread:
        return LATENT_IGNORED if step * config.optim.encoder_rate >= ENCODER_PATH else STARTING
    return HEALTHY
