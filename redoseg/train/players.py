"""The two players of the game. Neither knows the loop; the loop knows nothing of their losses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parametrize

from redoseg.config.schema import Config
from redoseg.nets import image_encoder
from redoseg.nets.region_generator import RegionGenerator
from redoseg.nets.unet import first_extractor
from redoseg.train import distributed, losses
from redoseg.train.augment import augmented

PENALTY_EVERY = 4  # steps between two of the discriminator's that are penalised, each for all of them


class Redrawer(nn.Module):
    """Mask extractor, one generator for each region, and the latent encoder."""

    norms: Callable[[], AbstractContextManager[None]] = staticmethod(parametrize.cached)
    """Within it a spectral norm is computed once, not at each use of its weight."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.objective
        nets, data = config.nets, config.data
        self.extractor = first_extractor(nets)
        self.generators = nn.ModuleList(RegionGenerator(nets, data.size, data.value_range) for _ in range(nets.regions))
        self.encoder = image_encoder.latent_encoder(nets, data.size)

    def centre_pull(self, step: int) -> Float[Tensor, ""] | None:
        """Weight of the pull to the centre at this step, counted from 1; None where there is none in the settings.

        A pull that is gone is 0 and not None, so that compiled players stay what they are.
        """
        if not self.config.centre_weight:
            return None
        weight = self.config.centre_weight * max(0.0, 1 - step / self.config.centre_steps)
        return next(self.parameters()).new_tensor(weight)

    def self_redraw_colours(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "3 3"] | None:
        """The map of colours in which self-redrawing is compared; None for plain ones. From all ranks' pictures."""
        if not self.config.self_redraw_weight or self.config.self_redraw_colours == "plain":
            return None
        return losses.whitening(distributed.all_gather(images))

    @property
    def reads(self) -> bool:
        """Whether the encoder takes part in a loss; else its weights get no gradient."""
        return bool(self.config.latent_weight or self.config.self_redraw_weight)

    def draw(self, latents: Float[Tensor, "b n d"], masks: Float[Tensor, "b n h w"]) -> Float[Tensor, "b n 3 h w"]:
        """Each region drawn over the whole picture from its latent."""
        regions = zip(self.generators, latents.unbind(1), masks.unsqueeze(2).unbind(1), strict=True)
        return torch.stack([generator(z, mask) for generator, z, mask in regions], 1)

    def redraw(
        self,
        images: Float[Tensor, "b 3 h w"],
        latents: Float[Tensor, "b n d"],
        chosen: Int[Tensor, " b"],
        shifts: Float[Tensor, "b 2"] | None = None,
        masks: Float[Tensor, "b n h w"] | None = None,
    ) -> tuple[Float[Tensor, "m 3 h w"], Float[Tensor, "b n 3 h w"], Float[Tensor, "b n h w"]]:
        """Redrawn pictures (`losses.compose`), the parts they were made of, and the masks.

        With `shifts`, from -1 to 1, the pictures' own objects on redrawn grounds follow (`losses.moved`). The
        extractor gives the masks, unless `masks` does.
        """
        masks = self.extractor(images) if masks is None else masks
        parts = drawn = self.draw(latents, masks)
        if self.config.mask_drawings:
            parts = parts * masks.unsqueeze(2)
        fakes = losses.compose(images, parts, masks, self.config.redraw, chosen)
        if shifts is not None:
            elsewhere = losses.moved(images, masks[:, :1], drawn[:, 1], self.config.move * shifts)
            fakes = torch.cat([fakes, elsewhere])
        return fakes, parts, masks

    def forward(
        self,
        images: Float[Tensor, "b 3 h w"],
        latents: Float[Tensor, "b n d"],
        chosen: Int[Tensor, " b"],
        discriminator: Discriminator,
        *,
        changes: Float[Tensor, "k 5"] | None = None,
        centre: Float[Tensor, ""] | None = None,
        colours: Float[Tensor, "3 3"] | None = None,
        shifts: Float[Tensor, "b 2"] | None = None,
        masks: Float[Tensor, "b n h w"] | None = None,
    ) -> dict[str, Tensor]:
        """The losses and their `total`.

        `changes` augment what the discriminator sees; `centre` comes from `centre_pull`, `colours` from
        `self_redraw_colours`, `shifts` move objects and `masks` stand for the extractor's (`redraw`).

        Also without gradient: the `fakes`, the `latents` that made them, and the regions' mean `sizes`.
        With several ranks all of that is of this rank's pictures, and its mean over the ranks that of the batch.
        """
        c = self.config
        with self.norms():
            if c.self_redraw_weight:
                read = self.encoder(images).view_as(latents)
            fakes, parts, masks = self.redraw(images, latents, chosen, shifts, masks)
            terms = {
                "redrawer": losses.redrawer_adversarial(discriminator.score_as_constant(fakes, changes), c.adversarial)
            }
            total = c.adversarial_weight * terms["redrawer"]
            if c.latent_weight:
                composites = fakes if shifts is None else fakes[: -len(images)]
                terms["latent"] = self.latent_error(composites, parts, latents)
                total = total + c.latent_weight * terms["latent"]
                # 0 where the encoder reads nothing off the picture, 1 where it reads all
                terms["latent_read"] = 1 - terms["latent"].detach() / distributed.mean(latents.square().mean())
            if c.floor_weight:
                terms["floor"] = losses.missing_share(masks, c.floor)
                total = total + c.floor_weight * terms["floor"]
            if centre is not None:
                total = total + centre * losses.off_centre(masks)
            if c.border_weight:
                terms["border"] = losses.border_share(masks)
                total = total + c.border_weight * terms["border"]
            if c.self_redraw_weight:
                # the generators see these masks as a constant, else masks would carry the picture to them
                drawings = self.draw(read, masks.detach())
                terms["self_redraw"] = losses.region_error(images, drawings, masks, colours)
                total = total + c.self_redraw_weight * terms["self_redraw"]
        terms["grey"] = losses.greyness(masks.detach())
        sizes = masks.detach().mean((0, 2, 3))
        return terms | {"total": total, "fakes": fakes.detach(), "latents": latents, "sizes": sizes}

    def latent_error(
        self,
        fakes: Float[Tensor, "m 3 h w"],
        parts: Float[Tensor, "b n 3 h w"],
        latents: Float[Tensor, "b n d"],
    ) -> Float[Tensor, ""]:
        """Mean squared error of the latents that the encoder recovers, from drawings or from composites."""
        if self.config.latent_from == "drawings":
            return F.mse_loss(self.encoder(parts.sum(1)).view_as(latents), latents)
        # composite k shows only z_k
        count = len(fakes) // len(latents)
        read = self.encoder(fakes).view(count, *latents.shape)
        return torch.stack([F.mse_loss(read[k, :, k], latents[:, k]) for k in range(count)]).mean()


class Discriminator(nn.Module):
    """The discriminator."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config.objective
        self.discriminator = image_encoder.discriminator(config.nets, config.data.size)

    def score_as_constant(
        self, images: Float[Tensor, "m 3 h w"], changes: Float[Tensor, "k 5"] | None = None
    ) -> Float[Tensor, "m 1"]:
        """Scores whose gradient reaches the pictures and never the discriminator's weights."""
        weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, weights, self._seen(images, changes))

    def _seen(self, images: Float[Tensor, "m 3 h w"], changes: Float[Tensor, "k 5"] | None) -> Float[Tensor, "m 3 h w"]:
        if not self.config.augment or changes is None:
            return images
        return augmented(images, changes[: len(images)])

    def forward(
        self,
        real: Float[Tensor, "b 3 h w"],
        fake: Float[Tensor, "m 3 h w"],
        changes: Float[Tensor, "k 5"] | None = None,
        *,
        penalised: bool = False,
    ) -> dict[str, Tensor]:
        """The losses on real and on redrawn pictures, their sum as `total`; `changes` augment both.

        With `penalised` the total has the `penalty` of `PENALTY_EVERY` steps.
        """
        c = self.config
        # one pass over both: half the spectral norms, and the nets have no batch statistics
        seen = self._seen(torch.cat([real, fake]), changes)
        if penalised:
            seen = seen.detach().requires_grad_()
        scores = self.discriminator(seen)
        on_real, on_fake = losses.discriminator_adversarial(scores[: len(real)], scores[len(real) :], c.adversarial)
        found = {"critic_real": on_real, "critic_fake": on_fake, "total": on_real + on_fake}
        if penalised:
            found["penalty"] = losses.gradient_penalty(scores[: len(real)], seen)
            found["total"] = found["total"] + PENALTY_EVERY * c.real_penalty * found["penalty"]
        return found


class MovingAverage:
    """Moving average of extractor and generators: what is scored, drawn and exported."""

    def __init__(self, redrawer: Redrawer, decay: float) -> None:
        self.decay = decay
        self.nets = nn.ModuleDict(
            {"extractor": copy.deepcopy(redrawer.extractor), "generators": copy.deepcopy(redrawer.generators)}
        )
        self.nets.requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, redrawer: Redrawer, step: int) -> None:
        """Follow the redrawer after its step number `step` (from 1); early on the average is shorter."""
        weight = 1 - min(self.decay, step / (step + 10))
        source = {"extractor": redrawer.extractor, "generators": redrawer.generators}
        mine: list[Tensor] = [p for name in source for p in self.nets[name].parameters()]
        theirs: list[Tensor] = [p for net in source.values() for p in net.parameters()]
        torch._foreach_lerp_(mine, theirs, weight)
        for name, net in source.items():  # statistics and spectral vectors are copied, not averaged
            for ours, new in zip(self.nets[name].buffers(), net.buffers(), strict=True):
                ours.copy_(new)
