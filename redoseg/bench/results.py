"""What benchmarks return, and print with --json. Ways of doing something are named by the keys of dictionaries."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Ratio(TypedDict):
    """How many times as fast as the reference, over the rounds."""

    median: float
    least: float
    most: float


class Timed(TypedDict):
    """Ways that took turns."""

    per_second: dict[str, list[float]]
    """For each way one figure a round."""
    ratio: dict[str, Ratio]
    """For each way but the first, which is the reference."""


class Hardware(TypedDict):
    """What the figures were measured on, with versions of what is installed."""

    processor: str
    cores: int
    python: str
    redoseg: str
    numpy: NotRequired[str]
    pillow: NotRequired[str]
    torch: NotRequired[str]
    onnxruntime: NotRequired[str]
    threads: NotRequired[int]
    device: NotRequired[str]


class Watched(TypedDict):
    """A whole command, start-up included, all its processes together."""

    pictures: int
    per_second: float
    peak_own_memory_mb: float


class PrepareResult(Timed):
    """`redoseg bench prepare`."""

    pictures: int
    megapixels: float
    size: int
    workers: int
    hardware: Hardware
    mean_difference_grey_levels: float
    """What reduced decoding changes, over pictures; and in the picture that it changes most."""
    largest_mean_difference_grey_levels: float
    mask_pixels_changed: int
    small: NotRequired[Watched]


class Network(Timed):
    """The network alone, from bytes to soft masks."""

    pictures: int
    largest_difference: dict[str, float]
    """To eager PyTorch's masks, which are from 0 to 1."""


class Shell(TypedDict):
    """One photograph from the shell."""

    seconds: list[float]
    median: float


class Folder(Timed):
    """A folder of photographs, from files to files."""

    pictures: int


class SegmentResult(TypedDict):
    """`redoseg bench segment`."""

    size: int
    hardware: Hardware
    network: Network
    shell: Shell
    folder: Folder
    small: NotRequired[Watched]
    many: NotRequired[Watched]


class Layer(TypedDict):
    """All calls of one kind of layer in a training step."""

    layer: str
    calls: int
    gflop: float
    gb: float
    ms: float
    bound: str
    """arithmetic or bytes."""
    share_of_bound: float
    least_ms: float


class Roofline(TypedDict):
    """What bounds a training step."""

    peak_tflop_a_second: float
    peak_gb_a_second: float
    precision: str
    step_ms: float
    layers_ms: float
    least_ms: float
    layers: list[Layer]
    """Those first that take longest."""


class TrainResult(Timed):
    """`redoseg bench train`."""

    config: dict[str, object]
    """The settings that differ between runs of the benchmark."""
    hardware: Hardware
    steps_in_a_turn: int
    gflop_a_step: dict[str, float]
    gflop_a_second: float
    gpu_memory_of_a_step_mb: NotRequired[dict[str, int]]
    same: NotRequired[dict[str, dict[str, dict[str, float]]]]
    """Way, number of steps, loss: how far it is from the plain version's."""
    roofline: NotRequired[Roofline]
    announced: NotRequired[dict[str, list[str]]]


class Growth(Timed):
    """Training steps as one setting grows."""

    gflop_a_step: dict[str, float]
    kept_for_backward_mb: dict[str, float]


class Processes(TypedDict):
    """Trainings in several processes."""

    pictures_per_second: dict[str, list[float]]
    ratio: dict[str, float]


class Link(TypedDict):
    """One kind of link between so many devices."""

    link: str
    devices: int
    communication_ms: float
    least_pictures_a_device: dict[str, float]
    """For each sustained rate, the least part of a batch under whose step the communication hides."""


class Devices(TypedDict):
    """The model of several devices."""

    weights_million: float
    gradients_a_step_mb: float
    gflop_a_picture: float
    rows: list[Link]


class ScalingResult(TypedDict):
    """`redoseg bench scaling`."""

    config: dict[str, object]
    hardware: Hardware
    threads: int
    resolution: Growth
    regions: Growth
    pictures: dict[str, dict[str, float]]
    processes: Processes
    devices: Devices


class PhotosResult(TypedDict):
    """`redoseg bench photos`."""

    seconds: dict[str, list[float]]
    """Of a whole training, by recipe and number of pictures; one figure a round."""
    ratio: dict[str, Ratio]
    """How many times as fast as the first recipe, for the same number of pictures."""
    each: dict[str, dict[str, list[float]]]
    """By recipe: median seconds of a step of the first stage, and of a target and a step in each round."""
    hardware: Hardware
