"""Second stage: a fresh mask extractor learns from the masks that redrawing gave, without labels.

Redrawing decides picture by picture, so some masks are wrong: they take in clutter of the background. Such masks
are ragged; or, where each was cut again by the colours of its picture, little like what they were before. A fresh
extractor that learns from the pictures with the best masks by that measure alone learns what the object looks like,
and is then right about most of the others. The first round can also start from a constant mask or from masks in a
folder (`refine.start`): the control that shows what the first stage adds.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from redoseg import metrics
from redoseg.config.schema import RefineConfig
from redoseg.errors import RunError
from redoseg.images.grabcut import grabcut_from
from redoseg.images.guided import CUT_ROUNDS
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.nets.unet import UNet
from redoseg.run_folder import Entry
from redoseg.system import in_order
from redoseg.train.composites import on_other_grounds
from redoseg.train.compute import autocast
from redoseg.train.corrections import Corrections, Given
from redoseg.train.doubt import disagreement, raggedness, smallest_region
from redoseg.train.loader import ImageStore
from redoseg.train.loop import refuse_non_finite
from redoseg.train.losses import region_error, whitening
from redoseg.train.mean_field import mean_field
from redoseg.train.measure import evenly_spaced, soft_masks
from redoseg.train.refine_state import RefineState, Student, Targets
from redoseg.train.start_masks import StartMasks
from redoseg.train.state import TrainState

PART = 64  # pictures whose targets are made at a time
SAVE_EVERY = 30.0  # seconds of work that a kill may cost, about
STREAM = 100  # of random numbers, apart from those of train/random_draws.py


def refine(
    state: TrainState,
    store: ImageStore,
    rounds: Sequence[ImageStore],
    *,
    report: Callable[[Entry, nn.Module], None],
    stop: Callable[[], bool],
    start: StartMasks | None = None,
    corrections: Corrections | None = None,
    at: RefineState | None = None,
    log: Callable[[Entry], None] = lambda _: None,
    save: Callable[[bool], None] = lambda _: None,
) -> MaskExtractor | UNet | None:
    """The extractor after the configured rounds, or None if asked to `stop`; `state` is not changed.

    `store` has the pictures at the size of the first stage, whose masks teach the first round, `rounds` the same ones
    at the size that each round works at. `start` gives other masks for the first round than the first stage's.
    `corrections` are targets of each round beside these, and leave out some of these.
    `at` is where the stage continues, and is changed; without it the stage begins.
    `report` is called after each round with a log entry and the extractor that the round gave, `log` with entries on
    the way, and `save` when `at` should be saved, with whether its targets have changed since.
    """
    config, device = state.config.refine, store.device
    images = evenly_spaced(len(store), config.pictures)
    at = at or RefineState(state.config, state.restarts, len(images), device)
    while not at.done:
        fine = rounds[at.round - 1]
        if at.targets.kept is None:
            source = start if at.round == 1 and start is not None else at.teacher or state.average.nets["extractor"]
            seen = store if at.round == 1 else rounds[at.round - 2]
            found = _find_targets(
                at, state, source, seen, fine, images=images, store=store, stop=stop, log=log, save=save
            )
            if found is None:
                save(True)
                return None
            regions, doubt = found
            kept = _kept(doubt, config, number=at.round, seed=state.seed, corrections=corrections, images=images)
            at.targets = Targets(regions, len(images), kept)
            save(True)
        given = corrections.at(fine.size) if corrections is not None else None
        if not learn_round(at, state.seed, fine, images, given=given, stop=stop, log=log, save=save):
            save(False)
            return None
        student = at.student
        assert student is not None
        assert at.targets.kept is not None
        student.network.eval().requires_grad_(False)
        figures: Entry = {"refine_loss": round(student.loss.item(), 5), "kept": len(at.targets.kept)}
        if corrections is not None:
            figures |= cast(Entry, corrections.labels)
        report({"refine_round": at.round, **figures}, student.network)
        at.end_round()
        save(False)
    return cast(MaskExtractor | UNet, at.teacher)


def _find_targets(
    at: RefineState,
    state: TrainState,
    source: StartMasks | nn.Module,
    seen: ImageStore,
    fine: ImageStore,
    *,
    images: Int[np.ndarray, " p"],
    store: ImageStore,
    stop: Callable[[], bool],
    log: Callable[[Entry], None],
    save: Callable[[bool], None],
) -> tuple[UInt8[np.ndarray, "p s s"], Float[np.ndarray, " p"]] | None:
    """Make the targets of the round; these and how doubtful each is, or None if asked to `stop`.

    `seen` has the images as `source` sees them, `store` as the first stage's generators do.
    """
    config, cut = state.config.refine, state.config.refine.cut_in(at.round)
    due = Due()

    def each() -> None:
        if at.targets.made % PART == 0 or at.targets.made == len(images):
            log({"refining": at.round, "targets": at.targets.made})
        if due():
            save(True)

    pair = make_targets(source, seen, fine, images, cut=cut, config=config, stop=stop, targets=at.targets, each=each)
    if pair is None:
        return None
    if config.judge == "redraw":
        return best_redrawn(state, store, images, pair)
    regions, least = pair[1], config.least_share
    if cut == "off":
        return regions, raggedness(regions, state.config.nets.regions, least)
    return regions, disagreement(*pair, least)


def learn_round(
    at: RefineState,
    seed: int,
    fine: ImageStore,
    images: Int[np.ndarray, " p"],
    *,
    given: Given | None = None,
    stop: Callable[[], bool],
    log: Callable[[Entry], None],
    save: Callable[[bool], None],
) -> bool:
    """The steps of a round, from where its student is; whether it was not asked to `stop`.

    Part of each batch are `given` masks, if there are any.
    """
    config, count, number = at.config.refine, at.config.nets.regions, at.round
    regions, kept = at.targets.regions, at.targets.kept
    assert kept is not None
    precision, due = autocast(at.config.precision, fine.device), Due()
    known = regions[kept] if len(kept) else regions
    one_hot = np.stack([known == region for region in range(count)], 1)
    inner = 0 if at.config.first_is_object else metrics.object_region(one_hot.astype(np.float32))
    more = given.in_batch(config.batch, len(kept), config.corrected_share) if given is not None else 0
    if at.student is None:
        torch.manual_seed(seed + number)
        at.student = Student.fresh(at.config, fine.device)
    student = at.student
    student.network.train()
    while student.step < config.steps:
        if stop():
            return False
        step = student.step + 1
        rng = np.random.default_rng([seed, STREAM, number, step])
        chosen = kept[rng.integers(0, max(1, len(kept)), config.batch)[more:]]
        drawn, stored = regions[chosen], fine.stored(images[chosen])
        if given is not None:
            corrected = given.draw(more, (seed, number, step))
            drawn = np.concatenate([given.regions(corrected, inner), drawn])
            stored = torch.cat([given.images(corrected, stored.device), stored])
        # a pixel that is not labelled is of no region, and counts nothing
        target = F.one_hot(torch.from_numpy(drawn).long().to(fine.device), count + 1)[..., :count]
        if config.composites:
            draws = np.random.default_rng([seed, STREAM + 1, number, step])
            stored = on_other_grounds(stored, drawn == inner, config.composites, draws)
        shown, wanted = augment(
            fine.floats(stored.to(fine.device)),
            target.permute(0, 3, 1, 2).float(),
            fine.signed,
            rng,
            (config.closest, config.furthest),
        )
        with precision:
            masks = student.network(shown.contiguous(memory_format=fine.layout))
        loss = -(wanted * masks.clamp_min(1e-4).log()).sum(1).mean()
        refuse_non_finite(loss, "second stage", step)
        student.optimiser.param_groups[0]["lr"] = one_cycle(step, config.steps, config.rate)
        student.optimiser.zero_grad()
        loss.backward()
        student.optimiser.step()
        student.loss += (loss.detach() - student.loss) / min(step, 50)
        student.step = step
        if step % at.config.watch.log_every == 0:
            log({"refining": number, "refine_step": step, "refine_loss": round(student.loss.item(), 5)})
        if due():
            save(False)
    return True


class Due:
    """Whether it is time to save: true every SAVE_EVERY seconds, a time that no kill should cost."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.since < SAVE_EVERY:
            return False
        self.since = now
        return True


def one_cycle(step: int, steps: int, highest: float) -> float:
    """The learning rate of this step, from 1: up to `highest` within a tenth of `steps`, then down, along a cosine.

    Smith and Topin 2019, as PyTorch's OneCycleLR has it; but a function of the step, so a resumed round needs no state.
    """
    first, last = highest / 25, highest / 25 / 1e4
    top = 0.1 * steps - 1
    if step - 1 <= top:
        low, high, share = first, highest, (step - 1) / top
    else:
        low, high, share = highest, last, (step - 1 - top) / (steps - 1 - top)
    return high + (low - high) / 2.0 * (math.cos(math.pi * share) + 1)


def _kept(
    doubt: Float[np.ndarray, " p"],
    config: RefineConfig,
    *,
    number: int,
    seed: int,
    corrections: Corrections | None,
    images: Int[np.ndarray, " p"],
) -> Int[np.ndarray, " k"]:
    """The images whose masks are learnt from in round `number`: the least doubtful, or some at random.

    Images that were corrected or refused are not among them. Raises RunError where every mask shows too little of a
    region, and there are no corrected ones.
    """
    if corrections is not None:
        doubt = np.where(corrections.left_out[images], np.inf, doubt)
    whole = int(np.isfinite(doubt).sum())
    if not whole and (corrections is None or not corrections.labels["corrected"]):
        remedy = "choose other masks with --refine.start, or a lower --refine.least-share, in redoseg refine RUN"
        if config.start == "run":
            without = " --refine.corrected ''" if config.corrected else ""
            remedy = (
                f"keep the first stage with --resume --refine.rounds 0 --redraw.steps 0{without}, or start a new run "
                "with another --seed"
            )
        raise RunError(
            f"no training picture shows every region, so the second stage has no masks to learn from; {remedy}"
        )
    share = config.keep if number == 1 else config.keep_later
    order = np.argsort(doubt, kind="stable")[:whole]
    if config.select == "random":
        order = np.random.default_rng([seed, STREAM, number, 0]).permutation(order)
    return order[: max(config.batch, round(share * len(doubt)))]


def make_targets(
    source: StartMasks | nn.Module,
    seen: ImageStore,
    fine: ImageStore,
    images: Int[np.ndarray, " p"],
    *,
    cut: str,
    config: RefineConfig,
    stop: Callable[[], bool],
    targets: Targets | None = None,
    each: Callable[[], None] = lambda: None,
) -> tuple[UInt8[np.ndarray, "p s s"], UInt8[np.ndarray, "p s s"]] | None:
    """Targets of these images at the size of `fine`, before and after they are cut as `cut` says.

    They come from masks to start from, or from a network that sees the images as `seen` has them. None where asked to
    `stop`. Those after the cut go into `targets`, where cuts that are there already are not made again; `each` is
    called after each one or after some.
    """
    targets = targets or Targets(np.zeros((len(images), fine.size, fine.size), np.uint8))
    before = []
    for numbers in np.array_split(np.arange(len(images)), -(-len(images) // PART)):
        if stop():
            return None
        if isinstance(source, StartMasks):
            masks = source.regions(images[numbers], fine.size)
            soft = masks.astype(np.float32)
        else:
            given = _enlarged(soft_masks(source, seen, images[numbers]), fine.size)
            masks, soft = given.argmax(1).astype(np.uint8), given[:, 1]
        before.append(masks)
        done, end = max(0, targets.made - int(numbers[0])), int(numbers[-1]) + 1
        if done >= len(numbers):
            continue
        after = targets.regions[targets.made : end]
        if cut == "mean-field":
            field = mean_field(fine.stored(images[numbers]), torch.from_numpy(soft).to(fine.device))
            after[:] = (field > 0.5).cpu().numpy().astype(np.uint8)[done:]
        else:
            after[:] = masks[done:]
        if cut == "grabcut":

            def one_more() -> None:
                targets.made += 1
                each()

            if not _cut_by_colour(fine, images[numbers[done:]], after, config.sharpen_size, stop=stop, each=one_more):
                return None
        targets.made = end
        if cut != "grabcut":
            each()
    return np.concatenate(before), targets.regions


def best_redrawn(
    state: TrainState,
    store: ImageStore,
    images: Int[np.ndarray, " p"],
    candidates: Sequence[UInt8[np.ndarray, "p s s"]],
) -> tuple[UInt8[np.ndarray, "p s s"], Float[np.ndarray, " p"]]:
    """Of each image the candidate under which the run's generators redraw it best, and the error of that.

    `store` has the images at the size of the generators. The error of a mask that all but misses a region is infinite.
    """
    errors = np.stack([_redraw_errors(state, store, images, regions) for regions in candidates])
    best = errors.argmin(0)
    return np.stack(candidates)[best, np.arange(len(images))], errors.min(0)


@torch.no_grad()
def _redraw_errors(
    state: TrainState, store: ImageStore, images: Int[np.ndarray, " p"], regions: UInt8[np.ndarray, "p s s"]
) -> Float[np.ndarray, " p"]:
    """Mean difference of each image and its redrawing from latents read off it, in whitened colours [values]."""
    nets = state.config.nets
    encoder = copy.deepcopy(state.redrawer.encoder).eval()  # in training a spectral norm changes at every use
    generators = list(state.average.nets["generators"].children())
    found = []
    for part in np.array_split(np.arange(len(images)), -(-len(images) // PART)):
        seen = store(images[part])
        masks = F.one_hot(torch.from_numpy(regions[part]).long(), nets.regions).permute(0, 3, 1, 2)
        masks = F.adaptive_avg_pool2d(masks.float().to(store.device), store.size)
        latents = encoder(seen).view(len(seen), nets.regions, nets.latent)
        drawings = torch.stack([g(latents[:, k], masks[:, k : k + 1]) for k, g in enumerate(generators)], 1)
        colours = whitening(seen)
        for i in range(len(seen)):
            one = slice(i, i + 1)
            found.append(region_error(seen[one], drawings[one].float(), masks[one], colours).item())
    least = state.config.refine.least_share * regions[0].size
    return np.where(smallest_region(regions, nets.regions) < least, np.inf, np.array(found))


def _enlarged(masks: Float[np.ndarray, "p n h w"], size: int) -> Float[np.ndarray, "p n s s"]:
    """Soft masks enlarged to `size`, by bilinear interpolation."""
    if masks.shape[-1] == size:
        return masks
    return F.interpolate(torch.from_numpy(masks), size=(size, size), mode="bilinear").numpy()


def _cut_by_colour(
    store: ImageStore,
    images: Int[np.ndarray, " p"],
    regions: UInt8[np.ndarray, "p h w"],
    side: int,
    *,
    stop: Callable[[], bool],
    each: Callable[[], None],
) -> bool:
    """GrabCut of each picture from its own regions, which are written over; whether it was not asked to `stop`.

    A picture is enlarged to `side` [pixels] first.
    What the colours of its region do not speak for changes sides. `each` is called after each picture, in order.
    """

    def cut(i: int) -> Bool[np.ndarray, "h w"]:
        return grabcut_from(store.stored(images[i : i + 1])[0].cpu().numpy(), regions[i] > 0, CUT_ROUNDS, side)

    with contextlib.closing(in_order(cut, range(len(regions)), torch.get_num_threads())) as cuts:
        for i, found in enumerate(cuts):
            if stop():
                return False
            regions[i] = found
            each()
    return True


def augment(
    images: Float[Tensor, "b 3 h w"],
    masks: Float[Tensor, "b n h w"],
    signed: bool,
    rng: np.random.Generator,
    zooms: tuple[float, float] = (0.7, 1.5),
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b n h w"]]:
    """Zoom, shift and mirror pictures with their masks; change the gain of each colour of the pictures.

    A zoom shows from the first to the second of `zooms` of a picture's side.
    """
    count = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)).to(images.device)

    zoom, mirror = uniform(*zooms, count), torch.sign(uniform(-1.0, 1.0, count))
    maps = torch.zeros(count, 2, 3, device=images.device)
    maps[:, 0, 0], maps[:, 1, 1], maps[:, :, 2] = zoom * mirror, zoom, uniform(-0.3, 0.3, count, 2)
    places = F.affine_grid(maps, list(images.shape), align_corners=False)
    seen = F.grid_sample(images, places, padding_mode="reflection", align_corners=False)
    wanted = F.grid_sample(masks, places, padding_mode="reflection", align_corners=False)
    black = -1.0 if signed else 0.0
    seen = ((seen - black) * uniform(0.7, 1.3, count, 3, 1, 1) + black).clamp(black, 1)
    return seen, wanted
