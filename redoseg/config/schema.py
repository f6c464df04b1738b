"""Every setting of a training run, as frozen dataclasses.

The defaults are those of the published runs on flowers at 128 pixels (Chen, Artieres, Denoyer 2019, experiments). Each
field's docstring is its help text on the command line and ends in its [unit].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

Number = TypeVar("Number", int, float)

STARTS = ("run", "disc", "square", "ground")  # of the second stage, beside masks in a folder


def ranged(default: Number, least: float, most: float = math.inf) -> Number:
    """A setting with its default, and the least and greatest value that it may have. Without it: 0 or more."""
    value: Number = field(default=default, metadata={"range": (least, most)})
    return value


def ranges(config: Any, prefix: str = "") -> Iterator[tuple[str, float, float]]:
    """Name (as data.size), least and greatest allowed value of each number in a `Config`."""
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            yield from ranges(value, f"{prefix}{one.name}.")
        elif not isinstance(value, str | bool):
            yield prefix + one.name, *one.metadata.get("range", (0, math.inf))


@dataclass(frozen=True)
class DataConfig:
    """The pictures to learn from, and those that only watch."""

    source: str = "shapes"
    """Training pictures: prepared set, folder of pictures, or shapes, shapes-hard, leaves, beetles, tray [path or
    name]"""
    split: str = "train"
    """Part of a prepared set to train on; a set without a part "train" is used whole [name, empty for all]"""
    pictures: int = ranged(4096, 1, 1_000_000)
    """How many built-in pictures to generate for training [pictures]"""
    size: int = 128
    """Side of the square pictures: 4 times a power of two [pixels]"""
    value_range: Literal["signed", "unit"] = "signed"
    """Networks see pictures in -1..1 (signed) or 0..1 (unit) [name]"""
    flip: bool = False
    """Mirror pictures left to right at random [true/false]"""
    resident: Literal["auto", "never"] = "auto"
    """auto: pictures stay in the device's memory if they take at most a quarter of it, else are read ahead [name]"""
    evaluate_on: str = ""
    """Pictures with masks to score while training; they never steer it [path or name, empty for none]"""
    evaluate_split: str = ""
    """Part of that set to score on [name, empty for all]"""
    mask_values: str = "auto"
    """Values of masks that are the object: auto, nonzero (anything but 0), or numbers as in 1,2 [name or numbers]"""
    evaluate_pictures: int = ranged(256, 1)
    """Score at most this many pictures while training [pictures]"""


@dataclass(frozen=True)
class NetConfig:
    """Sizes and make of the four networks (Chen, Artieres, Denoyer 2019, appendix)."""

    regions: int = ranged(2, 2, 16)
    """Regions n that the mask extractor divides a picture into [regions]"""
    latent: int = ranged(32, 1)
    """Length of the latent z of one region [numbers]"""
    extractor: Literal["paper", "unet"] = "paper"
    """The mask extractor of the paper, or a small U-Net that keeps finer edges [name]"""
    extractor_from: str = ""
    """Run or model whose masks this one starts with, its object as region 0 (of an ONNX file only a U-Net can be read);
    empty draws a new extractor [path or name]"""
    extractor_width: int = ranged(16, 1)
    """Channels of the mask extractor's first convolution [channels]"""
    generator_width: int = ranged(32, 1)
    """Channels ch of a region generator's last block [channels]"""
    discriminator_width: int = ranged(64, 1)
    """Channels of the discriminator's first block [channels]"""
    encoder_width: int = ranged(64, 1)
    """Channels of the latent encoder's first block [channels]"""
    upsampling: Literal["nearest", "bilinear"] = "nearest"
    """How the region generators double the side: nearest as published, or bilinear, which leaves no grid [name]"""
    generator_attention: bool = True
    """Self-attention in the region generators [true/false]"""
    discriminator_attention: bool = True
    """Self-attention in the discriminator [true/false]"""
    norm: Literal["instance", "batch"] = "instance"
    """Norm under the generators' conditional scale and shift [name]"""
    activation: Literal["relu", "leaky", "elu"] = "relu"
    """Activation between the layers of generators, discriminator and encoder [name]"""
    spectral_norm: bool = True
    """Spectral norm on the convolutions of generators, discriminator and encoder [true/false]"""
    initialisation: Literal["as-published", "everywhere", "default"] = "as-published"
    """Orthogonal weights only where there is no spectral norm, in every layer, or in none [name]"""
    initialisation_gain: float = 0.8
    """Gain of the orthogonal initialisation [factor]"""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What the two players minimise."""

    redraw: Literal["each", "one", "object", "together"] = "each"
    """One redrawn picture for each region, for one region at random, for region 0 only, or one with all [name]"""
    mask_drawings: bool = True
    """Multiply each drawn region by its mask [true/false]"""
    adversarial: Literal["hinge", "bce"] = "hinge"
    """Hinge loss on the raw score, or a sigmoid with binary cross-entropy [name]"""
    adversarial_weight: float = 1.0
    """Weight of fooling the discriminator [factor]"""
    move: float = ranged(0.0, 0, 0.5)
    """The discriminator also sees the object of each picture, region 0, shifted by up to this share of a side onto the
    redrawn ground; of two regions; 0 is off [share]"""
    augment: bool = False
    """The discriminator sees real and redrawn pictures with other colours and shifted, at random [true/false]"""
    real_penalty: float = ranged(0.0, 0)
    """Weight of the discriminator's squared gradient at real pictures, taken every fourth step: a flat discriminator
    there lets drawings settle [factor]"""
    fresh_fakes: bool = True
    """Redraw the discriminator's fakes with the updated networks, else use the redrawer's own [true/false]"""
    same_latents: bool = True
    """Fresh fakes use the latents of the redrawer's step, else new ones [true/false]"""
    other_real: bool = True
    """The discriminator's real pictures are another batch, else those that were redrawn [true/false]"""
    latent_weight: float = 5.0
    """Weight of recovering the latents from the redrawn picture [factor]"""
    latent_from: Literal["drawings", "composites"] = "drawings"
    """Recover latents from the picture in which every region is drawn, or from each composite [name]"""
    floor: float = ranged(0.0, 0, 0.5)
    """Least share of its picture that a region should have [share of the picture]"""
    floor_weight: float = 0.0
    """Weight of the shares missing to that floor [factor]"""
    centre_weight: float = 0.0
    """Weight of pulling region 0 to a centred disc, fading out over the first centre_steps [factor]"""
    centre_steps: int = ranged(100, 1)
    """Steps until that pull is gone [steps]"""
    border_weight: float = 0.0
    """Weight of region 0's share of the outer eighth of the picture, which it should leave to the ground [factor]"""
    self_redraw_weight: float = 0.0
    """Weight of redrawing each picture from the latents that the encoder reads off it [factor]"""
    self_redraw_colours: Literal["plain", "whitened"] = "plain"
    """Compare it in plain colours, or in colours whitened over the batch [name]"""


@dataclass(frozen=True)
class OptimConfig:
    """Adam, one optimiser a player."""

    extractor_rate: float = 1e-5
    """Learning rate of the mask extractor; 0 does not change the masks of nets.extractor_from [per step]"""
    extractor_decay: float = 1e-4
    """Weight decay (Adam's own L2) of the mask extractor [factor]"""
    extractor_wait: int = ranged(0, 0)
    """Steps before the mask extractor begins to learn [steps]"""
    generator_rate: float = 1e-4
    """Learning rate of the region generators [per step]"""
    encoder_rate: float = 1e-4
    """Learning rate of the latent encoder [per step]"""
    discriminator_rate: float = 1e-4
    """Learning rate of the discriminator [per step]"""
    beta1: float = ranged(0.0, 0, 0.9999)
    """Adam's decay of the mean gradient [factor]"""
    beta2: float = ranged(0.9, 0, 0.999999)
    """Adam's decay of the mean squared gradient [factor]"""
    average: float = ranged(0.999, 0, 0.999999)
    """Decay of the moving average of extractor and generators that is scored and exported; 0 is off [factor]"""


@dataclass(frozen=True)
class SpeedConfig:
    """How the same sums are computed. Only rounding depends on it."""

    channels_last: bool = True
    """Keep the channels of a pixel together in memory, as convolutions like it best [true/false]"""
    rewrite_convs: bool = True
    """Compute some convolutions another way, up- and downsampling within: the same sums, faster [true/false]"""
    fused_optimiser: bool = True
    """One pass over the weights for all of Adam [true/false]"""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """torch.compile's mode for both players (reduce-overhead: CUDA graphs); minutes at the start [name]"""


@dataclass(frozen=True)
class RefineConfig:
    """Second stage: a fresh extractor learns from the run's own best masks, which are chosen without labels."""

    rounds: int = 0
    """Train a fresh extractor on the masks of the one before, this often; 0 is off [rounds]"""
    start: str = "run"
    """What teaches the first round: the run's own masks, one constant disc or square for all, what differs from the
    ground that all pictures share, or the masks in a folder, one for each picture; without the run's own no first
    stage is trained [run, disc, square, ground or path]"""
    start_size: float = ranged(0.6, 0.01, 1.5)
    """Radius of that disc in halves of a side, or distance of that square from the border in sides [share]"""
    keep: float = ranged(0.25, 0.001, 1)
    """Share of the training pictures that the first round learns from: those with the least ragged masks, or, with
    sharpen, those whose masks it changed least [share]"""
    keep_later: float = ranged(0.5, 0.001, 1)
    """The same in later rounds, whose masks can be trusted more [share]"""
    least_share: float = ranged(0.03, 0, 0.5)
    """A mask whose object or ground is less than this is not learnt from; 0 also takes empty pictures [share of the
    picture]"""
    select: Literal["best", "random"] = "best"
    """Learn from the best masks by that measure, or from as many that are drawn at random [name]"""
    judge: Literal["agreement", "redraw"] = "agreement"
    """The best masks are those that a cut changed least (or the least ragged), or those under which the run's own
    generators redraw a picture best; redraw also chooses between a mask and its cut [name]"""
    pictures: int = ranged(10000, 1)
    """Consider at most this many training pictures [pictures]"""
    steps: int = ranged(300, 20)
    """Length of a round [steps]"""
    batch: int = ranged(32, 1)
    """Pictures in a batch of that stage [pictures]"""
    student: Literal["paper", "unet"] = "paper"
    """The network that this stage trains: the paper's extractor, or a small U-Net that keeps finer edges [name]"""
    student_width: int = ranged(12, 1)
    """Channels of that U-Net's first convolution [channels]"""
    rate: float = 2e-3
    """Highest learning rate, reached after a tenth of the round [per step]"""
    size: int = 0
    """Side of the pictures in that stage: 4 times a power of two, data.size or more; 0 is data.size [pixels]"""
    early_size: int = 0
    """The same in all rounds but the last, which then take less time; 0 is that of the last [pixels]"""
    sharpen: Literal["off", "grabcut", "mean-field"] = "off"
    """Cut the targets again, picture by picture, of two regions: grabcut by the colours of both, mean-field by these,
    by what the network says and by edges [name]"""
    sharpen_later: Literal["same", "off", "grabcut", "mean-field"] = "same"
    """The same in the rounds after the first, whose masks come from a network of this stage [name]"""
    sharpen_size: int = ranged(256, 1, 2048)
    """Pictures with a smaller side are enlarged to this one for GrabCut; 1 never enlarges [pixels]"""
    corrected: str = ""
    """Masks that a person repaired or accepted, which each round also learns from, as labels: a folder with images/ and
    masks/, or a review.csv with verdicts [folder or file, empty for none]"""
    corrected_share: float = ranged(0.25, 0.01, 1)
    """Least share of each batch that these take, so that a few of them count [share]"""
    corrected_values: str = "auto"
    """Values of masks in that folder that are the object, as data.mask_values [name or numbers]"""
    composites: float = ranged(0.0, 0, 1)
    """Share of a batch whose objects are shown on other grounds: plain ones, or those of other images [share]"""
    closest: float = ranged(0.7, 0.1, 1.5)
    """Pictures are zoomed at random; the closest zoom shows this much of a picture's side [share]"""
    furthest: float = ranged(1.5, 0.1, 3)
    """The furthest zoom shows this much of it, closest or more; what is beyond the border is mirrored [share]"""

    def cut_in(self, number: int) -> str:
        """How the targets of round `number`, counted from 1, are cut: off, grabcut or mean-field."""
        return self.sharpen if number == 1 or self.sharpen_later == "same" else self.sharpen_later


@dataclass(frozen=True)
class RedrawConfig:
    """Third stage: new generators learn to draw the object and the ground of the finished masks, which stay."""

    steps: int = ranged(0, 0)
    """Length of that stage; 0 is off [steps]"""
    size: int = ranged(0, 0)
    """Side of its drawings; 0 is that of the recipe, or of the masks if they are smaller [pixels]"""
    recipe: str = "redraw"
    """Recipe whose nets, objective and optim that stage takes [name or path]"""


@dataclass(frozen=True)
class WatchConfig:
    """What is written while training, and what counts as collapse."""

    log_every: int = ranged(20, 1)
    """Steps between two lines of the log [steps]"""
    evaluate_every: int = ranged(500, 1)
    """Steps between two scorings [steps]"""
    sample_every: int = ranged(2000, 1)
    """Steps between two sample grids [steps]"""
    checkpoint_every: int = ranged(1000, 1)
    """Steps between two checkpoints [steps]"""
    restarts: int = 0
    """Start again, with another seed, at most this often when a region has collapsed; 0 is off [times]"""
    picture_scores: bool = False
    """Also store the IoU of each labelled picture of data.evaluate_on, of all its splits, after the first stage and
    after each round of the second [true/false]"""
    collapse_share: float = ranged(0.1, 0, 0.5)
    """A region whose mean soft size is below this has collapsed; of n regions, below 2/n of it [share]"""
    collapse_every: int = ranged(500, 1)
    """Steps between two checks for collapse [steps]"""
    collapse_until: int = 7000
    """Last step at which collapse is looked for [steps]"""


@dataclass(frozen=True)
class Config:
    """One training run."""

    steps: int = ranged(20000, 1)
    """Length of the training [steps]"""
    batch: int = ranged(20, 1)
    """Pictures in a batch [pictures]"""
    seed: int = ranged(0, 0, 2**62)
    """Seed of every random draw [number]"""
    threads: int = 0
    """Processor threads; 0 takes all [threads]"""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """What layers compute in; auto is bfloat16 where the device multiplies it in hardware [name]"""
    data: DataConfig = field(default_factory=DataConfig)
    """Pictures"""
    nets: NetConfig = field(default_factory=NetConfig)
    """Networks"""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Losses"""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimisers"""
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    """Ways to compute"""
    refine: RefineConfig = field(default_factory=RefineConfig)
    """Second stage"""
    redraw: RedrawConfig = field(default_factory=RedrawConfig)
    """Third stage"""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """Logging and collapse"""

    @property
    def first_steps(self) -> int:
        """Length of the first stage, redrawing; 0 where the second starts from masks that no run made [steps]."""
        return self.steps if self.refine.start == "run" else 0

    @property
    def masks_stay(self) -> bool:
        """Whether the masks are those of another run or model, and only drawings are learnt."""
        return self.nets.extractor_from != "" and self.optim.extractor_rate == 0

    @property
    def first_is_object(self) -> bool:
        """Whether region 0 is the object, as it is in the masks that this run is given or makes from the ground."""
        return self.masks_stay or (self.has_second_stage and self.refine.start == "ground")

    @property
    def has_second_stage(self) -> bool:
        """Whether a fresh extractor learns from masks once redrawing is done."""
        return self.refine.rounds > 0

    @property
    def uses_grabcut(self) -> bool:
        """Whether a target of the second stage is cut with OpenCV's GrabCut."""
        return self.has_second_stage and any(self.refine.cut_in(n) == "grabcut" for n in (1, self.refine.rounds))

    @property
    def refined_size(self) -> int:
        """Side of the images and masks of the second stage [pixels]."""
        return self.refine.size or self.data.size

    def round_size(self, number: int) -> int:
        """Side of the images and masks of round `number` of the second stage, counted from 1 [pixels]."""
        return self.refined_size if number >= self.refine.rounds else self.refine.early_size or self.refined_size

    @property
    def largest_size(self) -> int:
        """The larger of the sizes that the stages of this run see [pixels]; the second's is never smaller."""
        return self.refined_size if self.has_second_stage else self.data.size
