"""What each verb takes, as dataclasses: each field's docstring is its help text and ends in its [unit]."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from redoseg.config.kinds import Kind
from redoseg.config.schema import Config


@dataclass(frozen=True)
class Train:
    """Learn to cut out the object from pictures alone. Settings given here override the recipe's."""

    recipe: tyro.conf.Positional[str] = ""
    """Recipe: a TOML file, or the name of one that ships with redoseg [file or name]"""
    data: str = ""
    """Folder of pictures or prepared set to train on, its address (s3://, gs://, hf://), or a list of addresses (.txt);
    without a recipe, the recipe photos is used [folder]"""
    ground: Literal["any", "fixed"] = "any"
    """fixed: all pictures show one ground, as a table or a slide, with many objects on it; without a recipe, the recipe
    same-ground is used [name]"""
    mask_values: str = ""
    """Values of masks that are the object, as --data.mask-values; masks are only scored on [name or numbers]"""
    out: Path | None = None
    """Run folder to make; the default is runs/RECIPE-seedN [folder]"""
    resume: bool = False
    """Continue the run in --out where it stopped; a larger --steps is allowed [true/false]"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU if there is one [name]"""
    dry_run: bool = False
    """Say what would be learnt from and how long it would take on this machine, and stop [true/false]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """With --dry-run, print the settings that would be used, as JSON, and read no pictures [true/false]"""
    sheet: Path | None = None
    """With --dry-run, write a contact sheet of the pictures as training sees them [file]"""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Settings"""


@dataclass(frozen=True)
class Refine:
    """Do the second stage of a finished run again, with other settings of --refine. The first stage stays."""

    run: tyro.conf.Positional[Path]
    """Run folder, whose first stage is finished; its second stage is replaced [folder]"""
    corrected: str | None = None
    """Masks that you repaired or accepted, to learn from too, as --refine.corrected [folder or review.csv]"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU if there is one [name]"""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    """Settings"""


@dataclass(frozen=True)
class Evaluate:
    """Score a model on pictures with masks, beside methods that learn nothing."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    data: tyro.conf.Positional[str]
    """Prepared set, folder with images/ and masks/, or held-out shapes, shapes-hard, leaves, beetles, tray [path or
    name]"""
    split: str = ""
    """Score only this part of the set, such as test [name, empty for all]"""
    seed: int = 0
    """Seed of built-in pictures [number]"""
    size: int | None = None
    """Side to score at; if none, a prepared set's own, the model's for built-in pictures, else 128 [pixels]"""
    edges: Literal["plain", "guided", "grabcut"] = "plain"
    """plain scores the network itself, guided what `segment` writes, grabcut what its --edges grabcut does [name]"""
    clean: bool = True
    """Drop small parts and fill small holes as `segment` does, but not with plain edges [true/false]"""
    own_size: bool = False
    """Score at the size of each picture instead, and also score the edges (boundary F-score) [true/false]"""
    grounds: bool = False
    """Instead score the set's objects on other grounds: white, pale grey, wood, grey, blue, black and those of other
    pictures [true/false]"""
    redraw: bool = False
    """Instead compare objects that the model draws with real ones, by their texture; needs no masks [true/false]"""
    mask_values: str = "auto"
    """Values of masks that are the object: auto, nonzero (anything but 0), or numbers as in 1,2 [name or numbers]"""
    methods: tuple[str, ...] = ("kmeans", "grabcut")
    """Methods to print beside the model: kmeans, watershed, grabcut, iem (slow), otsu, square, everything [names]"""
    threads: int = 0
    """Threads, each of which works on one picture; 0 takes one for each core [threads]"""
    device: Literal["cpu", "cuda", "coreml", "directml", "openvino"] = "cpu"
    """Where the network is computed; a device other than cpu needs its own package of ONNX Runtime [name]"""
    picture: Path | None = None
    """Also write a before/after picture of some of them here [file ending in .png]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Segment:
    """Cut the object out of photographs and films: a mask of each picture's own size."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    source: tyro.conf.Positional[tuple[str, ...]]
    """Pictures, films, folders whose sub-folders are mirrored, patterns as in "photos/*.jpg", lists of pictures (.txt),
    and addresses (s3://, gs://, hf://, https://); - is the picture that comes through standard input [paths]"""
    out: Annotated[str, tyro.conf.arg(aliases=["-o"])]
    """Folder to write to, or its address; for one picture also a file ending in .png; - is standard output [path]"""
    kind: Annotated[tuple[Kind, ...], tyro.conf.arg(name="as"), tyro.conf.UseAppendAction] = ()
    """mask: 0 and 255, if none is given; soft: 0 to 255; cutout: transparent background; overlay: drawn on the picture;
    for labelling tools coco, yolo, labelme, labelstudio; measures: a table of areas, lengths and colours. Given several
    times, each kind has a sub-folder [name]"""
    polygons: bool = False
    """Masks in coco.json are polygons, as Ultralytics and detectron2 need them, not run-length codes [true/false]"""
    crop: bool = False
    """Cut each picture to the box around the object [true/false]"""
    margin: float | None = None
    """Around the object of a crop or square, as a share of its longer side; 0.02 if not given [0 to 1]"""
    square: int = 0
    """Make cut-outs squares of this side with the object in the middle; 0 leaves it as in the photograph [pixels]"""
    parts: bool = False
    """Each connected part is an object of its own: NAME-1.png, ..., the largest first; in labels too [true/false]"""
    ground: str = ""
    """Put cut-outs on a colour (white, "#ff8800"), their own ground blurred (blur), or a picture [name or file]"""
    image_format: Annotated[Literal["auto", "png", "jpg", "webp"], tyro.conf.arg(name="format")] = "auto"
    """Format of cut-outs and overlays; auto goes by the name of --out, else png [name]"""
    quality: int | None = None
    """How much JPEG and WebP keep; 90 if not given [1 to 100]"""
    film: Literal["auto", "mp4", "webm", "prores", "ffv1", "frames"] = "auto"
    """What a film becomes: webm and prores (a .mov) can be transparent, ffv1 (a .mkv) loses nothing, frames is a folder
    of PNG files; auto goes by the name of --out, else webm for transparent cut-outs and mp4. Films need the part
    `video` of redoseg [name]"""
    steady: int = 3
    """Average a film's masks over this many frames before and after, against flicker; at most 15 [frames]"""
    threshold: float = 0.5
    """How sure the network must be that a pixel is of the object; soft ignores it [0 to 1]"""
    clean: bool = True
    """Drop small parts of a mask and fill its small holes, but not in soft nor with plain edges [true/false]"""
    smallest_part: float = 0.1
    """A part of a mask with fewer pixels is dropped, as a share of its largest part; 0 leaves all [0 to 1]"""
    largest_hole: float = 0.01
    """A hole with fewer pixels is filled, as a share of the object; 0 leaves all [0 to 1]"""
    feather: float = 0.0
    """Over how many pixels more a cut-out fades in, from its edge inwards [pixels]"""
    matting: bool = False
    """Find how opaque a cut-out is along its edge from the colours there, for hair and petals; slower; needs the part
    `matting` of redoseg [true/false]"""
    keep_hidden: bool = False
    """Leave the photograph below what is transparent in a cut-out; otherwise it is black there [true/false]"""
    mm_per_pixel: float | None = None
    """Also give lengths and areas of --as measures in mm: how much of the object a pixel shows [mm]"""
    review: bool = False
    """Also write contact sheets of a folder, from the least to the most sure picture, and a table [true/false]"""
    edges: Literal["guided", "plain", "grabcut"] = "guided"
    """guided: a mask takes its edges from the photograph; plain: it is the network's, enlarged; grabcut: the colours
    of object and ground move the edge, which is better where these differ, and slower [name]"""
    tiles: int = 0
    """Show the network a large picture part by part: the side of a tile, which is as much as one picture of the
    training showed. Very large TIFF files are then read part by part, with the part `tiff` of redoseg; 0 shows whole
    pictures [pixels]"""
    label: str = ""
    """What the object is called in files of labelling tools; the model's name if not given [name]"""
    threads: int = 0
    """Threads, each of which works on one picture; 0 takes one for each core [threads]"""
    engine: Literal["threads", "ray"] = "threads"
    """What runs the work on many pictures: threads of this process, or Ray on a cluster; ray needs the part `ray` of
    redoseg [name]"""
    workers: int = 0
    """With --engine ray, worker processes of a core each; 0 takes one for each core of the cluster [workers]"""
    device: Literal["cpu", "cuda", "coreml", "directml", "openvino"] = "cpu"
    """Where the network is computed; a device other than cpu needs its own package of ONNX Runtime [name]"""
    overwrite: bool = False
    """Replace results that exist already; pictures given are never replaced [true/false]"""
    skip_existing: bool = False
    """Continue after a stop: leave results that the same model and settings made of the same pictures; with
    --overwrite others are made again [true/false]"""
    trust: bool = False
    """Open a model file with operators that redoseg does not write; it can use any memory and time [true/false]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print what was done as one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Serve:
    """A page to drop photographs on and to follow training runs, and an HTTP interface beside it.

    Without --host only this computer reaches them.
    """

    model: tyro.conf.Positional[str] = "flowers"
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    page: bool = True
    """Show the page; --no-page serves the HTTP interface alone, for which the part `api` is enough [true/false]"""
    run: tuple[Path, ...] = ()
    """Run folders whose progress the second tab shows [folders]"""
    examples: Path | None = None
    """Folder whose first pictures are offered to try [folder]"""
    corrected: Path | None = None
    """Folder for masks that are corrected on the page, for `refine --corrected`; otherwise they are offered for
    download [folder]"""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets in every computer of the network [name or address]"""
    port: int = 7860
    """Port to listen on; 0 takes a free one [port]"""
    allow_host: tuple[str, ...] = ()
    """Names by which a proxy may call this page, as example.org [names]"""
    root_path: str = ""
    """Path below which a proxy serves this page, as /redoseg [path]"""
    max_mb: float = 30.0
    """Largest file that may be uploaded [MB]"""
    max_megapixels: float = 50.0
    """Largest picture that is decoded [million pixels]"""
    device: Literal["cpu", "cuda", "coreml", "directml", "openvino"] = "cpu"
    """Where the network is computed; a device other than cpu needs its own package of ONNX Runtime [name]"""
    trust: bool = False
    """Open a model file with operators that redoseg does not write; it can use any memory and time [true/false]"""


@dataclass(frozen=True)
class Prepare:
    """Decode pictures once, into arrays that training maps into memory. After a stop the same command continues."""

    name: tyro.conf.Positional[str]
    """flowers102, flowers17, lfw, cub200-2011, butterflies, horses, celebamask, folder; or a mix, as a+b [name]"""
    out: Path
    """Prepared set to make [folder]"""
    source: tuple[str, ...] = ()
    """Folder of the set in its official layout, folder of any pictures, or folder with images/ and masks/, or its
    address (s3://, gs://, hf://); one for each part of a mix; or shards of pictures, .tar or .parquet; or a list of
    addresses (.txt) [folders]"""
    download: bool = False
    """Fetch the official archives into --source first, or into the user's cache if none is given [true/false]"""
    splits: Path | None = None
    """Lists of names instead of the set's splits: a file of lines `NAME,SPLIT` or `NAME 0|1|2` (train, val, test), or
    a folder with train.txt ... [path]"""
    size: int = 128
    """Side of the prepared pictures [pixels]"""
    mask_values: str = "auto"
    """Values of masks that are the object: auto, nonzero (anything but 0), or numbers as in 1,2 [name or numbers]"""
    nearest: bool = False
    """Take nearest pixels, as the published runs did, instead of smoothed ones [true/false]"""
    workers: int = 0
    """Threads that decode; 0 takes one for each core [threads]"""


@dataclass(frozen=True)
class Data:
    """What is in a prepared set, and a contact sheet of it."""

    path: tyro.conf.Positional[Path]
    """Prepared set [folder]"""
    sheet: Path | None = None
    """Where to write the contact sheet; contact-sheet.png in the set's own folder if not given [file]"""


@dataclass(frozen=True)
class Quantize:
    """Make an int8 copy of a model, about twice as fast. It needs pictures like those to segment, without masks."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, or the name of weights in the package [path or name]"""
    pictures: tyro.conf.Positional[Path]
    """Pictures to measure ranges of values on; 256 of them are enough [folder]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Model to write, for `redoseg segment` as any other [file ending in .onnx]"""


@dataclass(frozen=True)
class Redraw:
    """Draw a photograph's object or background again, from random latents or with the texture of another photograph."""

    model: tyro.conf.Positional[str]
    """Run folder, model folder, hf://user/name, or the name of weights in the package [path or name]"""
    photo: tyro.conf.Positional[Path]
    """Photograph to redraw [file]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to write to: NAME-1.png ... and the sheet NAME-redrawn.png [folder]"""
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 8
    """Number of drawings; in an animation or film, of those that it shows [drawings]"""
    seed: int = 0
    """Seed of the latents [number]"""
    what: Literal["object", "background", "both"] = "object"
    """What is drawn; the rest stays the photograph [name]"""
    like: Path | None = None
    """Take the texture of this photograph instead, in that many steps from the photograph's own [file]"""
    gif: bool = False
    """One looping animation, NAME-redrawn.gif, instead [true/false]"""
    mp4: bool = False
    """One film, NAME-redrawn.mp4, instead; needs the part `video` [true/false]"""
    overwrite: bool = False
    """Replace results that exist already; pictures given are never replaced [true/false]"""


@dataclass(frozen=True)
class Export:
    """Make a model folder of a run, to share: config, weights, mask.onnx, redraw.onnx, and a model card.

    With --web, make a page that segments in a browser, without a network; with --space, such a page as a Space.
    """

    model: tyro.conf.Positional[str]
    """Run folder, whose last checkpoint is exported; with --web or --space also a model folder or the name of weights
    in the package [path or name]"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder to make [folder]"""
    web: bool = False
    """Make one page, index.html, with the weights and ONNX Runtime Web in it, which is fetched from the npm registry
    once [true/false]"""
    space: bool = False
    """Make the folder of a static Space for Hugging Face's hub: the page of --web, and a README.md [true/false]"""
    runtime: Path | None = None
    """With --web or --space, a local copy of ONNX Runtime Web: the file that `npm pack` gives, or its folder [path]"""
    licence: str = ""
    """Licence of the weights for the card or the page, such as apache-2.0 [identifier or text]"""
    data_note: str = ""
    """Where the pictures come from and what may be done with them, for the card or the page [text]"""
    limits: str = ""
    """What the model is bad at, for the card or the page [text]"""


@dataclass(frozen=True)
class Push:
    """Upload a model folder to Hugging Face's hub. The token is the one of `hf auth login`, or HF_TOKEN."""

    folder: tyro.conf.Positional[Path]
    """Model folder made by `redoseg export` [folder]"""
    repo: tyro.conf.Positional[str]
    """Its name on the hub [user/name]"""
    private: bool = False
    """Only you can see it [true/false]"""


@dataclass(frozen=True)
class Compare:
    """Models beside methods that need no training, on pictures with masks. After a stop the same command continues."""

    data: tyro.conf.Positional[str]
    """Prepared set, folder with images/ and masks/, or held-out shapes, shapes-hard, leaves, beetles, tray [path or
    name]"""
    model: tyro.conf.Positional[tuple[str, ...]] = ()
    """Run folders, model folders, or names of weights in the package [paths or names]"""
    methods: tuple[str, ...] = ("kmeans", "watershed", "grabcut", "iem", "otsu", "square", "everything")
    """Methods beside them; settings follow a name, as in grabcut:start=disc,size=0.8 [names]"""
    masks: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Also score masks that another program or a person made, as NAME=FOLDER, named like the pictures and of their
    proportions. Give it once for each folder [name and folder]"""
    split: str = ""
    """Only this part of the set [name, empty for all]"""
    mask_values: str = "auto"
    """Values of masks that are the object: auto, nonzero (anything but 0), or numbers as in 1,2 [name or numbers]"""
    tune: str | None = None
    """First choose each method's settings, by iou, on this other part; of built-in pictures, another seed [name]"""
    seed: int = 0
    """Seed of built-in pictures [number]"""
    size: int | None = None
    """Side to score at; if none, a prepared set's own, the first model's for built-in pictures, else 128 [pixels]"""
    edges: Literal["both", "plain", "guided", "grabcut", "all"] = "both"
    """A model's rows: plain is the network itself, guided what `segment` writes, grabcut what its --edges grabcut
    does; both: plain and guided [name]"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Also write table.md, results.json and grid.png here [folder]"""
    jobs: int = 0
    """Threads, each of which works on one picture; 0 takes one for each core [threads]"""
    fresh: bool = False
    """Compute all masks again, also those that are on disk, so that all are timed [true/false]"""
    overwrite: bool = False
    """Replace results that are already in --out [true/false]"""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Study:
    """A table of many runs: rows of settings, several seeds each. After a stop the same command continues."""

    study: tyro.conf.Positional[str]
    """A TOML file, or the name of a study that ships with redoseg [file or name]"""
    out: Path | None = None
    """Folder for its runs, results and table; studies/NAME if not given [folder]"""
    jobs: int = 0
    """Runs at the same time, one thread each; 0 takes one for each core, or one for each GPU [runs]"""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train [name]"""
    minutes: float = 0.0
    """Start no further run after this time; 0 sets no limit [minutes]"""


@dataclass(frozen=True)
class Doctor:
    """Versions, devices and a quick self-test: what a bug report needs. It never fails and prints no secrets."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object and nothing else [true/false]"""


@dataclass(frozen=True)
class Completion:
    """Print a script that completes verbs, settings and names at TAB: eval "$(redoseg completion bash)"."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]
    """The shell that it is for [name]"""
