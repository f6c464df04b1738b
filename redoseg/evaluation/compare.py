"""Models beside methods that need no training, on the same labelled pictures: one table, one grid of masks.

Runs on ONNX Runtime and OpenCV, without torch. Each mask is kept on disk, so that a stopped comparison goes on.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from redoseg import metrics
from redoseg.data import BUILT_IN, PAPER_SIZE, ImageSet, labelled_images
from redoseg.errors import DataError, ModelError, RedosegError
from redoseg.evaluation import baselines
from redoseg.files import cache_dir, describe_error, make_folder, printable, why_not_write, write_atomic
from redoseg.images.draw import captioned, grid, outlined
from redoseg.inference.model_file import find_model
from redoseg.inference.segmenter import Edges, Segmenter
from redoseg.metrics import boundary_f
from redoseg.system import cores, in_order, opencv

FIGURES = ("accuracy", "iou", "iou_oracle_flip", "boundary_f")
WhichEdges = Literal["both", "plain", "guided", "grabcut", "all"]
TABLE, RESULTS, GRID = "table.md", "results.json", "grid.png"

# To be raised whenever a model's masks come out otherwise than before: those on disk are made anew then.
_VERSION = 1
_TILE = 128  # side of a tile in the grid [pixels]
_LETTERS = 23  # in a line of small print over a tile
_EACH = 2  # pictures of each sort in it

ImageArray = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidate:
    """What makes a row of the table: a way from a picture (H, W, 3) to the object (H, W)."""

    name: str
    of: str
    """What it is the work of: rows of one model are not tested against each other."""
    key: str
    """All that its masks depend on beside the picture."""
    mask: Callable[[ImageArray], Mask]
    settings: dict[str, Any]
    megabytes: float | None = None
    """Size of the model's file."""
    side: int = PAPER_SIZE
    """Of the picture that the network sees [pixels]."""


class _Outcome(NamedTuple):
    """What became of one picture."""

    figures: tuple[float, ...]
    seconds: float | None
    """None if the mask was on disk."""
    why: str | None
    """Why there is none."""


def candidates(methods: Sequence[str], models: Sequence[str], edges: WhichEdges = "both") -> list[Candidate]:
    """A row for each method and each model, of a model two if `edges` is "both", three if "all".

    Raises RedosegError: nothing named, an unknown method or setting, no such model, one of more than two regions.
    """
    if edges not in get_args(WhichEdges):
        raise ModelError(f"edges {edges!r} seen, one of {', '.join(get_args(WhichEdges))} expected: name one of them")
    rows = []
    for wanted in dict.fromkeys(methods):
        method = baselines.method(wanted)
        key = f"{method.key} OpenCV {opencv().__version__}"
        rows.append(Candidate(wanted, f"method {wanted}", key, method.mask, method.settings))
    ways: Sequence[Edges] = {"both": ("plain", "guided"), "all": get_args(Edges)}.get(edges, (edges,))
    for model in dict.fromkeys(models):
        _, content = found = find_model(model)
        segmenter = Segmenter(found, threads=1)
        if segmenter.regions != 2:
            raise DataError(f"{model} has {segmenter.regions} regions, two expected: score it with `evaluate`")
        for way in ways:
            key = f"model {hashlib.sha256(content).hexdigest()} {way} {_VERSION} {onnxruntime.__version__}"
            if way == "grabcut":
                key += f" OpenCV {opencv().__version__}"
            name = model if way == "plain" else f"{model}, {way} edges"
            about = {"edges": way}, len(content) / 1e6, segmenter.size
            rows.append(Candidate(name, f"model {model}", key, functools.partial(segmenter, edges=way), *about))
    if not rows:
        raise RedosegError("no model and no method named, at least one expected: name one to look at")
    return rows


def compare(
    data: str,
    models: Sequence[str] = (),
    methods: Sequence[str] = tuple(baselines.METHODS),
    split: str | None = None,
    size: int | None = None,
    seed: int = 0,
    edges: WhichEdges = "both",
    out: Path | None = None,
    jobs: int = 0,
    fresh: bool = False,
    overwrite: bool = False,
    tune: str | None = None,
    on_item: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Score models and methods on the labelled pictures of `data`.

    Masks are kept in the user's cache, so that stopped at any moment the same call goes on. A method that fails on a
    picture is listed under `failed`, and its mask counts as empty there.

    Args:
        data, split, seed: as for `evaluate`.
        models: whatever `Segmenter` takes; two regions each.
        methods: names of `baselines.METHODS`, with settings if wanted: "grabcut:inset=0.1".
        size: side to score at [pixels]; if None, a prepared set's own, the first model's for built-in pictures, else
            128.
        edges: which rows a model gets.
        out: folder for table.md, results.json and grid.png; none of them is written if None.
        jobs: threads; as many as this process may use if 0.
        fresh: compute every mask anew, so that each row has its pictures a second.
        overwrite: whether results that are in `out` may be replaced.
        tune: split, for built-in pictures a seed, that shares no picture with the table: each method gets the settings
            of `baselines.variants` with the best `iou` there. If None, the settings named or the defaults.
        on_item: called with the masks done, their total, and the row at work; with `tune` the count runs twice.

    Returns:
        `rows`, the best `iou` first, each with its means from 0 to 1 and their 95 % intervals, what its `iou` is
        ahead of the best other's (`against`), pictures a second (None if all masks were on disk) and megabytes; the
        pictures of the grid under `shown`; under `tuned` the `iou` of all settings that were tried.

    Raises RedosegError: nothing to compare, nothing to score on, OpenCV missing, results that are there already,
        pictures that are both for the table and for choosing settings.
    """
    rows = candidates(methods, models, edges)
    for target in [out / name for name in (TABLE, RESULTS, GRID)] if out is not None else []:
        problem = why_not_write(target, set(), overwrite)
        if problem:
            raise RedosegError(f"{printable(target)} {problem} with --overwrite")
    native = next((row.side for row in rows if row.of.startswith("model ")), PAPER_SIZE)
    images = _opened(data, size, split, seed, native)
    others = _others(data, tune, images, split, seed) if tune is not None else None
    cache = _cache()
    make_folder(cache)

    tuned: dict[str, Any] | None = None
    if others is not None:
        tried = {wanted: baselines.variants(wanted) for wanted in dict.fromkeys(methods)}
        several = [name for names in tried.values() if len(names) > 1 for name in names]
        choices = candidates(several, (), edges) if several else []
        tuned = {"on": tune, "pictures": len(others)}
        tuned["iou"] = _tried(choices, others, cache, jobs or cores(), on_item)
        best = [max(names, key=lambda name: tuned["iou"].get(name, 0)) for names in tried.values()]
        rows = candidates(best, models, edges)
    outcomes = _outcomes(rows, images, cache, jobs or cores(), fresh, on_item)
    by_iou = sorted(zip(rows, outcomes, strict=True), key=lambda pair: -sum(o.figures[1] for o in pair[1]))
    rows, outcomes = [row for row, _ in by_iou], [of_row for _, of_row in by_iou]
    figures = [{f: np.array([o.figures[k] for o in row]) for k, f in enumerate(FIGURES)} for row in outcomes]
    ious = [of["iou"] for of in figures]
    result: dict[str, Any] = {
        "data": images.name,
        "split": split or "",
        "size": images.size,
        "pictures": len(images),
        "tuned": tuned,
        "rows": [_row(rows, r, figures, outcomes[r]) for r in range(len(rows))],
        "failed": [
            {"method": row.name, "picture": name, "why": outcome.why}
            for row, of_row in zip(rows, outcomes, strict=True)
            for name, outcome in zip(images.names, of_row, strict=True)
            if outcome.why is not None
        ],
    }
    result |= _shown(rows, ious, images, models)
    if out is not None:
        make_folder(out)
        sheet = io.BytesIO()
        _grid(result, rows, ious, images, cache).save(sheet, "PNG")
        write_atomic(out / GRID, sheet.getvalue())
        write_atomic(out / TABLE, f"{table(result)}\n![{result['rule']}]({GRID})\n".encode())
        each = {row.name: [round(float(iou), 4) for iou in these] for row, these in zip(rows, ious, strict=True)}
        whole = result | {"names": list(images.names), "ious": each}
        write_atomic(out / RESULTS, json.dumps(whole, indent=1).encode())
    return result


# ----------------------------------------------------------------------------------------------------- pictures


def _opened(data: str, size: int | None, split: str | None, seed: int, native: int) -> ImageSet:
    """Those with at least one labelled pixel."""
    images = labelled_images(data, size, split, seed, built_in=native)
    known = [i for i in range(len(images)) if (images.labels([i]) >= 0).any()]
    if not known:
        raise DataError(f"none of {len(images)} masks of {data} has a labelled pixel, one expected: name another set")
    return images.take(known)


def _others(data: str, tune: str, images: ImageSet, split: str | None, seed: int) -> ImageSet:
    """The pictures to choose settings on, at the size of the table's `pictures`."""
    if data not in BUILT_IN:
        others = _opened(data, images.size, tune, seed, images.size)
        shared = len(set(others.names) & set(images.names))
        if shared:
            raise DataError(
                f"{shared} of the pictures to choose settings on (--tune {tune}) are also in the table "
                f"({f'--split {split}' if split else 'all of the set'}), none expected: name two different splits"
            )
        return others
    if not tune.isdecimal() or int(tune) == seed:
        raise DataError(
            f"--tune {tune} seen with {data}, another seed than the table's {seed} expected: name a whole number"
        )
    return _opened(data, images.size, None, int(tune), images.size)


# ----------------------------------------------------------------------------------------------------- masks


def _cache() -> Path:
    return cache_dir() / "compare"


def _outcomes(
    rows: Sequence[Candidate],
    images: ImageSet,
    cache: Path,
    jobs: int,
    fresh: bool,
    on_item: Callable[[int, int, str], None] | None,
) -> list[list[_Outcome]]:
    """What became of each picture, for each row."""
    cv2 = opencv()
    n = len(images)

    def work(item: tuple[int, int]) -> _Outcome:
        r, i = item
        image, labels = np.ascontiguousarray(images.pixels[i]), images.labels([i])
        mask, seconds, why = _mask(rows[r], image, cache, fresh)
        scores = metrics.score(mask[None], labels)
        edge = boundary_f(mask, labels[0])
        return _Outcome((scores.accuracy, scores.iou, scores.iou_oracle_flip, edge), seconds, why)

    found: list[list[_Outcome]] = [[] for _ in rows]
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # a picture a thread: seconds are those of one core then
    try:
        with closing(in_order(work, ((r, i) for r in range(len(rows)) for i in range(n)), jobs)) as outcomes:
            for done, outcome in enumerate(outcomes):
                found[done // n].append(outcome)
                if on_item is not None:
                    on_item(done + 1, len(rows) * n, rows[done // n].name)
    finally:
        cv2.setNumThreads(before)
    return found


def _tried(
    choices: Sequence[Candidate],
    images: ImageSet,
    cache: Path,
    jobs: int,
    on_item: Callable[[int, int, str], None] | None,
) -> dict[str, float]:
    """The mean `iou` of each."""
    outcomes = _outcomes(choices, images, cache, jobs, False, on_item)
    return {
        row.name: float(np.mean([outcome.figures[FIGURES.index("iou")] for outcome in of_row]))
        for row, of_row in zip(choices, outcomes, strict=True)
    }


def _mask(row: Candidate, image: ImageArray, cache: Path, fresh: bool = False) -> tuple[Mask, float | None, str | None]:
    """A row's mask of a picture (H, W), the seconds that it took if it was not on disk, and why it failed if it did."""
    height, width = image.shape[:2]
    key = hashlib.sha256(f"{row.key} {image.shape} ".encode() + image.tobytes()).hexdigest()
    path = cache / key[:2] / key  # some file systems are slow with many files in one folder
    if not fresh:
        try:
            bits = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError:
            bits = np.empty(0, np.uint8)
        if len(bits) == math.ceil(height * width / 8):
            return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool), None, None
    started = time.thread_time()  # of this thread alone: what else the machine does is no matter
    try:
        mask = row.mask(image)
    except Exception as error:  # whatever a method trips over costs it this picture
        return np.zeros((height, width), bool), None, describe_error(error)
    seconds = time.thread_time() - started
    make_folder(path.parent)
    write_atomic(path, np.packbits(mask).tobytes())
    return mask, seconds, None


# ----------------------------------------------------------------------------------------------------- figures


def _best_other(rows: Sequence[Candidate], r: int) -> int | None:
    """The best of the rows that are not of the same model; rows are sorted."""
    return next((other for other in range(len(rows)) if rows[other].of != rows[r].of), None)


def _row(
    rows: Sequence[Candidate], r: int, figures: Sequence[dict[str, NDArray[np.float64]]], outcomes: Sequence[_Outcome]
) -> dict[str, Any]:
    row = rows[r]
    result: dict[str, Any] = {"method": row.name, "settings": row.settings}
    for figure, values in figures[r].items():
        result[figure] = float(values.mean())
        result[f"{figure}_interval"] = metrics.bootstrap_interval(values)
    other = _best_other(rows, r)
    result |= {"against": None, "difference": None, "difference_interval": None, "p": None}
    if other is not None:
        test = metrics.paired(figures[r]["iou"], figures[other]["iou"])
        result |= {"against": rows[other].name, "difference": test.difference}
        result |= {"difference_interval": test.interval, "p": test.p}
    seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
    result["computed"] = len(seconds)
    result["pictures_per_second"] = len(seconds) / sum(seconds) if sum(seconds) > 0 else None
    result["megabytes"] = row.megabytes
    result["failed"] = sum(outcome.why is not None for outcome in outcomes)
    return result


def _shown(
    rows: Sequence[Candidate], ious: Sequence[NDArray[np.float64]], images: ImageSet, models: Sequence[str]
) -> dict[str, Any]:
    """Which pictures stand for the whole, by a rule that nobody can bend, and the rule in words."""
    first = f"model {models[0]}" if models else rows[0].of
    own = [r for r, row in enumerate(rows) if row.of == first]
    r = next((r for r in own if rows[r].settings.get("edges") == "plain"), own[0])
    other = _best_other(rows, r)
    ahead = ious[r] - ious[other] if other is not None else ious[r]
    less = f" less that of {rows[other].name}" if other is not None else ""
    falling = np.argsort(-ahead, kind="stable")
    n = len(falling)
    middle = (n - _EACH) // 2
    chosen: dict[int, str] = {}
    for which, places in (
        ("best", range(min(_EACH, n))),
        ("median", range(max(middle, 0), min(middle + _EACH, n))),
        ("worst", range(max(n - _EACH, 0), n)),
    ):
        for place in places:
            chosen.setdefault(int(falling[place]), which)
    return {
        "rule": f"the best, median and worst {_EACH} of {n} pictures by IoU of {rows[r].name}{less}",
        "shown": [
            {"number": i, "picture": images.names[i], "which": which, "difference": float(ahead[i])}
            for i, which in chosen.items()
        ],
    }


# ----------------------------------------------------------------------------------------------------- showing


def _grid(
    result: dict[str, Any],
    rows: Sequence[Candidate],
    ious: Sequence[NDArray[np.float64]],
    images: ImageSet,
    cache: Path,
) -> Image.Image:
    """Rows of photographs, columns of methods, the rule below."""

    nothing = np.ones((images.size, images.size), bool)
    titles = ["photograph", "truth", *(_title(row) for row in rows)]
    lines = []
    for entry in result["shown"]:
        i = entry["number"]
        image, labels = np.ascontiguousarray(images.pixels[i]), images.labels([i])[0]
        photo = Image.fromarray(image)
        line = [
            captioned(outlined(photo, nothing, _TILE), f"{entry['which']}: {100 * entry['difference']:+.1f}"),
            captioned(outlined(photo, labels > 0, _TILE, labels < 0), images.names[i]),
        ]
        for row, values in zip(rows, ious, strict=True):
            mask, _, why = _mask(row, image, cache)
            line.append(captioned(outlined(photo, mask, _TILE), "failed" if why else f"{100 * values[i]:.1f}"))
        lines.append(line)
    heads = [textwrap.wrap(title, _LETTERS, break_on_hyphens=True) for title in titles]
    deepest = max(map(len, heads))
    blank = Image.new("RGB", (_TILE, _TILE), "white")
    top = grid([[functools.reduce(captioned, head + [""] * (deepest - len(head)), blank) for head in heads]])
    top = top.crop((0, 4 + _TILE, top.width, top.height - 4))  # the titles alone
    body = grid(lines)
    whole = Image.new("RGB", (body.width, top.height + body.height), "white")
    whole.paste(top, (0, 0))
    whole.paste(body, (0, top.height))
    for text in (f"Rows: {result['rule']}.", "Below each mask its IoU in %; grey is not labelled."):
        whole = captioned(whole, f" {text}")
    return whole


def _title(row: Candidate) -> str:
    """The name without the folders that a model lies in, with spaces where a line may end."""
    of = row.of.partition(" ")[2]
    return (Path(of).name + row.name.removeprefix(of)).replace(":", ": ").replace(",", ", ").replace("  ", " ")


def table(result: dict[str, Any]) -> str:
    """The result as Markdown, percentages."""
    where = f"{result['data']}{' ' + result['split'] if result['split'] else ''}"
    heads = ["", "accuracy", "`iou`", "`iou_oracle_flip`", "edge's F-score", "pictures a second", "model [MB]"]
    heads += ["`iou` less the best other's", "p"]
    lines = [f"{where}, {result['pictures']} pictures at {result['size']} px. Means in % (95 % intervals).", ""]
    lines += [_line(heads), _line(["---"] * len(heads))]
    for row in result["rows"]:
        cells = [row["method"].replace("|", "\\|")]
        cells += [f"{100 * row[f]:.1f} {_span(row[f + '_interval'])}" for f in FIGURES]
        speed = row["pictures_per_second"]
        cells.append("cached" if not row["computed"] else f"{speed:.2g}" if speed and speed < 10 else _whole(speed))
        cells.append("-" if row["megabytes"] is None else f"{row['megabytes']:.2f}")
        if row["against"] is None:
            cells += ["-", "-"]
        else:
            ahead = f"{100 * row['difference']:+.1f} {_span(row['difference_interval'], '+')}"
            cells += [f"{ahead} ({row['against']})".replace("|", "\\|"), f"{row['p']:.4f}"]
        lines.append(_line(cells))
    lines += [
        "",
        "The best other is the row with the best `iou` that is not of the same model; p is that of a paired "
        "sign-flip test, for one pair, not for the many that a table has. Pictures a second are those of one core, "
        "over what was computed this time, and rough.",
    ]
    settings = [(row["method"].partition(":")[0], row["settings"]) for row in result["rows"]]
    said = [
        f"{name} {', '.join(f'{k} {baselines.shown_value(v)}' for k, v in s.items())}"
        for name, s in settings
        if s and "edges" not in s
    ]
    if said:
        lines += ["", f"Settings: {'; '.join(said)}."]
    tuned = result["tuned"]
    if tuned is not None and tuned["iou"]:
        where = f"{'seed' if tuned['on'].isdecimal() else 'split'} {tuned['on']}"
        lines[-1] += (
            f" They have the best `iou` of {len(tuned['iou'])} settings that were tried on {tuned['pictures']} other "
            f"pictures ({where})."
        )
    failed = result["failed"]
    if failed:
        lines += ["", f"{len(failed)} masks are missing and count as empty:", ""]
        lines += [f"- {f['method']} on {f['picture']}: {f['why']}" for f in failed[:20]]
        lines += [f"- and {len(failed) - 20} more"] * (len(failed) > 20)
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _span(interval: Sequence[float], sign: str = "") -> str:
    return f"({100 * interval[0]:{sign}.1f} to {100 * interval[1]:{sign}.1f})"


def _whole(speed: float | None) -> str:
    """Two digits that count: anything more would pretend."""
    if not speed:
        return "-"
    return f"{float(f'{speed:.2g}'):,.0f}"
