"""Models beside methods that need no training, on the same labelled images: one table, one grid of masks.

Masks that somebody else made can be scored in the same table. Runs on ONNX Runtime and OpenCV, without torch. Each
computed mask is kept on disk, so a stopped comparison can continue.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg import metrics
from redoseg.data import BUILT_IN, PAPER_SIZE, ImageSet, labelled_images
from redoseg.errors import DataError, RedosegError
from redoseg.evaluation import baselines
from redoseg.evaluation.candidates import (
    Candidate,
    ImageArray,
    Mask,
    WhichEdges,
    candidates,
    given_rows,
)
from redoseg.evaluation.results import FIGURES, MISSED, Comparison, Failure, Row, Shown, Tuned, about_set
from redoseg.evaluation.tables import markdown_table
from redoseg.files import alone, at_home, cache_dir, describe_error, make_folder, printable, why_not_write, write_atomic
from redoseg.images.draw import captioned, grid, outlined
from redoseg.metrics import boundary_f
from redoseg.system import cores, in_order, opencv

TABLE, RESULTS, GRID = "table.md", "results.json", "grid.png"

_TILE = 128  # side of a tile in the grid [pixels]
_LETTERS = 23  # in a line of small print over a tile
_EACH = 2  # images of each sort in it


class _Outcome(NamedTuple):
    """What came of one image."""

    figures: tuple[float, ...]
    seconds: float | None
    """None if the mask was on disk."""
    why: str | None
    """Why there is no mask; None if there is one."""


OnItem = Callable[[int, int, str], None]
"""Called with the masks done, their total, and the name of the row."""


def compare(
    data: str,
    *,
    models: Sequence[str] = (),
    methods: Sequence[str] = tuple(baselines.METHODS),
    masks: Mapping[str, str | Path] | None = None,
    split: str | None = None,
    size: int | None = None,
    seed: int = 0,
    edges: WhichEdges = "both",
    out: Path | None = None,
    jobs: int = 0,
    fresh: bool = False,
    overwrite: bool = False,
    tune: str | None = None,
    mask_values: str = "auto",
    on_item: OnItem | None = None,
) -> Comparison:
    """Score models, methods and given masks on the labelled images of a set.

    Masks are kept in the user's cache: the same call continues a comparison that was stopped. If a method fails on an
    image, `failed` lists it, and its mask counts as empty there.

    Args:
        data, split, seed, mask_values: as for `evaluate`.
        models: as `Segmenter` takes them; two regions each.
        methods: names of `baselines.METHODS`, with settings or without: "grabcut:inset=0.1".
        masks: folders of masks that somebody else made, by the name of their row.
        size: side of the scored images [pixels]. None for that of a prepared set, the first model's for built-in
            images, else 128.
        edges: which rows a model gets.
        out: folder for table.md, results.json and grid.png; nothing is written if None.
        jobs: threads; 0 for as many as this process may use.
        fresh: compute every mask, also those on disk, so that each row has its images a second.
        overwrite: whether results in `out` may be replaced.
        tune: a split, for built-in images a seed, that shares no image with the table. Each method gets the settings
            of `baselines.variants` with the best `iou` there. None for the settings in `methods`, or the defaults.
        on_item: called after each mask; with `tune` the count runs twice.

    Raises RedosegError: nothing to compare, nothing to score on, no OpenCV, results that exist already, images
        that are both in the table and in `tune`, or given masks that do not fit.
    """
    if not (models or methods or masks):
        raise RedosegError("There is no model, no method and no folder of masks to compare. Choose at least one.")
    rows = candidates(methods, models, edges)
    if out is not None:
        out = at_home(out)
        _refuse_results(out, overwrite)
    native = next((row.side for row in rows if row.of.startswith("model ")), PAPER_SIZE)
    images = _labelled(data, size, split=split, seed=seed, native=native, mask_values=mask_values)
    given, notes = given_rows(masks or {}, images, mask_values, rows)
    made = _Masks(cache_dir() / "compare", jobs or cores(), on_item)
    tuned: Tuned | None = None
    if tune is not None:
        others = _images_to_tune_on(data, tune, images, split=split, seed=seed, mask_values=mask_values)
        best, tuned = _tune(methods, tune, others, made)
        rows = candidates(best, models, edges)
    rows += given
    rows, outcomes = _by_iou(rows, made.score(rows, images, fresh))
    figures = [{f: np.array([o.figures[k] for o in row]) for k, f in enumerate(FIGURES)} for row in outcomes]
    ious = [of["iou"] for of in figures]
    rule, shown = _chosen(rows, ious, images, models)
    result: Comparison = {
        "data": images.name,
        "split": split or "",
        "size": images.size,
        "pictures": len(images),
        "tuned": tuned,
        "rows": [_row(rows, r, figures, outcomes[r]) for r in range(len(rows))],
        "failed": _failures(rows, outcomes, images),
        "rule": rule,
        "shown": shown,
        **about_set(data, images.bad, [*images.notes, *notes]),
    }
    if out is not None:
        sheet = _grid(result, rows, ious, images, made)
        with alone(out):
            _refuse_results(out, overwrite)  # another comparison may have written them since
            _write(out, result, images, ious, sheet)
    return result


def _by_iou(
    rows: Sequence[Candidate], outcomes: Sequence[Sequence[_Outcome]]
) -> tuple[list[Candidate], list[Sequence[_Outcome]]]:
    """The rows with their outcomes, the best mean `iou` first."""
    pairs = sorted(zip(rows, outcomes, strict=True), key=lambda pair: -sum(o.figures[1] for o in pair[1]))
    return [row for row, _ in pairs], [of_row for _, of_row in pairs]


def _failures(rows: Sequence[Candidate], outcomes: Sequence[Sequence[_Outcome]], images: ImageSet) -> list[Failure]:
    """The images on which a method failed."""
    return [
        {"method": row.name, "picture": name, "why": outcome.why}
        for row, of_row in zip(rows, outcomes, strict=True)
        for name, outcome in zip(images.names, of_row, strict=True)
        if outcome.why is not None
    ]


def _refuse_results(out: Path, overwrite: bool) -> None:
    """Raises RedosegError where results that exist may not be replaced."""
    for target in (out / name for name in (TABLE, RESULTS, GRID)):
        problem = why_not_write(target, set(), overwrite)
        if problem:
            raise RedosegError(f"{printable(target)} {problem}")


def _write(
    out: Path, result: Comparison, images: ImageSet, ious: Sequence[NDArray[np.float64]], sheet: Image.Image
) -> None:
    """table.md, grid.png, and results.json with the IoU of each image."""
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    write_atomic(out / GRID, buffer.getvalue())
    write_atomic(out / TABLE, f"{markdown_table(result)}\n![{result['rule']}]({GRID})\n".encode())
    each = {
        row["method"]: [round(float(iou), 4) for iou in these] for row, these in zip(result["rows"], ious, strict=True)
    }
    whole = {**result, "names": list(images.names), "ious": each}
    write_atomic(out / RESULTS, json.dumps(whole, indent=1).encode())


def _tune(methods: Sequence[str], on: str, images: ImageSet, masks: _Masks) -> tuple[list[str], Tuned]:
    """Each method with the settings that score best on `images`, and the scores of all settings."""
    tried = {method: baselines.variants(method) for method in dict.fromkeys(methods)}
    several = [name for names in tried.values() if len(names) > 1 for name in names]
    rows = candidates(several, ()) if several else []
    iou = {
        row.name: float(np.mean([outcome.figures[FIGURES.index("iou")] for outcome in of_row]))
        for row, of_row in zip(rows, masks.score(rows, images), strict=True)
    }
    best = [max(names, key=lambda name: iou.get(name, 0)) for names in tried.values()]
    return best, {"on": on, "pictures": len(images), "iou": iou}


# ----------------------------------------------------------------------------------------------------- images


def _labelled(data: str, size: int | None, *, split: str | None, seed: int, native: int, mask_values: str) -> ImageSet:
    """The images with at least one labelled pixel."""
    images = labelled_images(data, size, split=split, seed=seed, built_in=native, mask_values=mask_values)
    known = [i for i in range(len(images)) if (images.labels([i]) >= 0).any()]
    if not known:
        raise DataError(f"None of the {len(images)} masks of {data} has a labelled pixel. Choose another set.")
    return images.take(known)


def _images_to_tune_on(
    data: str, tune: str, images: ImageSet, *, split: str | None, seed: int, mask_values: str
) -> ImageSet:
    """The images to choose settings on, at the size of the table's `images`."""
    if data not in BUILT_IN:
        others = _labelled(data, images.size, split=tune, seed=seed, native=images.size, mask_values=mask_values)
        shared = len(set(others.names) & set(images.names))
        if shared:
            raise DataError(
                f"{shared} of the pictures to choose settings on (--tune {tune}) are also in the table "
                f"({f'--split {split}' if split else 'all of the set'}). Choose two splits that share no picture."
            )
        return others
    if not tune.isdecimal() or int(tune) == seed:
        raise DataError(
            f"--tune is {tune}, but {data} needs a whole number that is not the table's seed ({seed}). "
            "Choose another number."
        )
    return _labelled(data, images.size, split=None, seed=int(tune), native=images.size, mask_values=mask_values)


# ----------------------------------------------------------------------------------------------------- masks


class _Masks:
    """Masks, computed or from the cache, and their scores.

    Args:
        cache: folder of the masks on disk; it is made.
        jobs: threads.
        on_item: called after each mask that is scored.
    """

    def __init__(self, cache: Path, jobs: int, on_item: OnItem | None) -> None:
        self.cache, self.jobs, self.on_item = cache, jobs, on_item
        make_folder(cache)

    def score(self, rows: Sequence[Candidate], images: ImageSet, fresh: bool = False) -> list[list[_Outcome]]:
        """What came of each image, for each row; `fresh` computes masks that are on disk again."""
        cv2 = opencv()
        n = len(images)

        def work(item: tuple[int, int]) -> _Outcome:
            r, i = item
            image, labels = np.ascontiguousarray(images.pixels[i]), images.labels([i])
            mask, seconds, why = self.mask(rows[r], image, i, fresh)
            scores = metrics.score(mask[None], labels)
            edge = boundary_f(mask, labels[0])
            return _Outcome((scores.accuracy, scores.iou, scores.iou_oracle_flip, edge), seconds, why)

        found: list[list[_Outcome]] = [[] for _ in rows]
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)  # an image a thread: seconds are then those of one core
        try:
            with closing(in_order(work, ((r, i) for r in range(len(rows)) for i in range(n)), self.jobs)) as outcomes:
                for done, outcome in enumerate(outcomes):
                    found[done // n].append(outcome)
                    if self.on_item is not None:
                        self.on_item(done + 1, len(rows) * n, rows[done // n].name)
        finally:
            cv2.setNumThreads(before)
        return found

    def mask(
        self, row: Candidate, image: ImageArray, number: int, fresh: bool = False
    ) -> tuple[Mask, float | None, str | None]:
        """A row's mask (H, W) of the image of this number, and why it failed (None if not).

        Between them the seconds to compute it, None if it was on disk.
        """
        height, width = image.shape[:2]
        if row.kind == "given":
            try:
                return row.mask(number), None, None
            except DataError as error:
                return np.zeros((height, width), bool), None, str(error)
        key = hashlib.sha256(f"{row.key} {image.shape} ".encode() + image.tobytes()).hexdigest()
        path = self.cache / key[:2] / key  # some file systems are slow with many files in one folder
        if not fresh:
            try:
                bits = np.frombuffer(path.read_bytes(), np.uint8)
            except OSError:
                bits = np.empty(0, np.uint8)
            if len(bits) == math.ceil(height * width / 8):
                return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool), None, None
        started = time.thread_time()  # of this thread alone, whatever else the machine does
        try:
            mask = row.mask(image)
        except Exception as error:  # any failure of a method costs it this image
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
) -> Row:
    row = rows[r]
    result: dict[str, Any] = {"method": row.name, "kind": row.kind, "settings": row.settings}
    for figure, values in figures[r].items():
        result[figure] = float(values.mean())
        result[f"{figure}_interval"] = metrics.bootstrap_interval(values)
    ious = figures[r]["iou"]
    result |= {"iou_median": float(np.median(ious)), "missed": float((ious < MISSED).mean())}
    other = _best_other(rows, r)
    result |= {"against": None, "difference": None, "difference_interval": None, "p": None}
    if other is not None:
        test = metrics.paired(ious, figures[other]["iou"])
        result |= {"against": rows[other].name, "difference": test.difference}
        result |= {"difference_interval": test.interval, "p": test.p}
    seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
    result["computed"] = len(seconds)
    result["seconds"] = sum(seconds) / len(seconds) if seconds else None
    result["megabytes"] = row.megabytes
    result["failed"] = sum(outcome.why is not None for outcome in outcomes)
    return cast(Row, result)


def _chosen(
    rows: Sequence[Candidate], ious: Sequence[NDArray[np.float64]], images: ImageSet, models: Sequence[str]
) -> tuple[str, list[Shown]]:
    """The images of the grid, chosen by a fixed rule, not by hand; and that rule in words."""
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
    for which, positions in (
        ("best", range(min(_EACH, n))),
        ("median", range(max(middle, 0), min(middle + _EACH, n))),
        ("worst", range(max(n - _EACH, 0), n)),
    ):
        for position in positions:
            chosen.setdefault(int(falling[position]), which)
    rule = f"the best, median and worst {_EACH} of {n} pictures by IoU of {rows[r].name}{less}"
    return rule, [
        {"number": i, "picture": images.names[i], "which": which, "difference": float(ahead[i])}
        for i, which in chosen.items()
    ]


# ----------------------------------------------------------------------------------------------------- showing


def _grid(
    result: Comparison,
    rows: Sequence[Candidate],
    ious: Sequence[NDArray[np.float64]],
    images: ImageSet,
    masks: _Masks,
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
            mask, _, why = masks.mask(row, image, i)
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
    """The name without the folders that a model is in, with spaces where a line may end."""
    of = row.of.partition(" ")[2]
    return (Path(of).name + row.name.removeprefix(of)).replace(":", ": ").replace(",", ", ").replace("  ", " ")
