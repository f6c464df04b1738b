"""What each verb does. It imports what it needs when it runs, so that help and segmenting start at once."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redoseg import signals
from redoseg.cli.bench import BENCHES, run_bench
from redoseg.cli.bench_options import Bench
from redoseg.cli.console import DONE, IN_PART, STOPPED, list_failed, new_console, note_unfinished, progress, say
from redoseg.cli.export import run_export, run_push
from redoseg.cli.options import (
    Compare,
    Completion,
    Data,
    Doctor,
    Evaluate,
    Export,
    Prepare,
    Push,
    Quantize,
    Redraw,
    Refine,
    Segment,
    Serve,
    Study,
    Train,
)
from redoseg.cli.parse import parse
from redoseg.cli.train import run_refine, run_train
from redoseg.errors import ConfigError
from redoseg.files import check_file, check_folder, in_shell, write_atomic
from redoseg.storage import is_address

if TYPE_CHECKING:
    from redoseg.evaluation.results import AboutSet
    from redoseg.inference.animations import Film


def run_evaluate(arguments: Sequence[str]) -> int:
    command = parse(Evaluate, "evaluate", arguments)
    from redoseg.evaluation.evaluate import evaluate, evaluate_own_size
    from redoseg.evaluation.tables import print_evaluation, print_own_size
    from redoseg.inference.object_mask import CLEANING

    c, split = command, command.split or None
    note_unfinished(c.model)
    cleaning = CLEANING if c.clean else None
    if c.picture:
        check_file(c.picture)
    if c.grounds:
        return _evaluate_on_grounds(c)
    if c.redraw:
        return _evaluate_drawings(c)
    if c.own_size:
        if c.size is not None or c.picture:
            raise ConfigError("--own-size cannot be combined with --size or --picture.")
        with progress("scoring") as advance:
            own = evaluate_own_size(
                c.model,
                c.data,
                split,
                advance,
                mask_values=c.mask_values,
                cleaning=cleaning,
                threads=c.threads or None,
                device=c.device,
            )
        if c.as_json:
            print(json.dumps(own))
        else:
            print_own_size(own, new_console())
        return _report_set(own, c.as_json)
    result = evaluate(
        c.model,
        c.data,
        split=split,
        seed=c.seed,
        methods=c.methods,
        image=c.picture,
        size=c.size,
        edges=c.edges,
        mask_values=c.mask_values,
        cleaning=cleaning,
        threads=c.threads or None,
        device=c.device,
    )
    if c.as_json:
        print(json.dumps(result))
    else:
        print_evaluation(result, new_console())
        if c.picture:
            say(f"before/after picture: {c.picture}")
    return _report_set(result, c.as_json)


def _report_set(result: AboutSet, as_json: bool) -> int:
    """Print what a labelled set lacks, unless the JSON object has it; returns the exit code."""
    skipped = result.get("skipped", [])
    if as_json:
        return IN_PART if skipped else DONE
    for note in result.get("notes", []):
        say(f"note: {note}")
    scored: Any = dict(result).get("pictures", 0)
    return list_failed(skipped, scored)


def _evaluate_on_grounds(command: Evaluate) -> int:
    if command.redraw or command.own_size or command.picture or command.edges != "plain":
        raise ConfigError("--grounds cannot be combined with --redraw, --own-size, --picture or --edges.")
    from redoseg.evaluation.grounds import evaluate_grounds, print_grounds

    c = command
    result = evaluate_grounds(
        c.model,
        c.data,
        split=c.split or None,
        seed=c.seed,
        size=c.size,
        mask_values=c.mask_values,
        threads=c.threads or None,
        device=c.device,
    )
    if c.as_json:
        print(json.dumps(result))
    else:
        print_grounds(result, new_console())
    return _report_set(result, c.as_json)


def _evaluate_drawings(command: Evaluate) -> int:
    c = command
    if c.own_size or c.picture or c.size is not None or c.edges != "plain":
        raise ConfigError("--redraw cannot be combined with --own-size, --picture, --size or --edges.")
    from redoseg.evaluation.drawings import evaluate_drawings, print_drawings

    result = evaluate_drawings(c.model, c.data, split=c.split or None, seed=c.seed, threads=c.threads or None)
    if c.as_json:
        print(json.dumps(result))
    else:
        print_drawings(result, new_console())
    return _report_set(result, c.as_json)


def run_segment(arguments: Sequence[str]) -> int:
    command = parse(Segment, "segment", arguments)
    from redoseg.cli.segment import segment

    return segment(command)


def run_serve(arguments: Sequence[str]) -> int:
    command = parse(Serve, "serve", arguments)
    import threading

    from redoseg.web.guard import is_loopback
    from redoseg.web.page import serving

    c = command
    if not c.page and (c.run or c.examples or c.corrected):
        raise ConfigError("--no-page cannot be combined with --run, --examples or --corrected, which the page shows.")
    note_unfinished(c.model)
    with serving(
        model=c.model,
        runs=c.run,
        host=c.host,
        port=c.port,
        max_mb=c.max_mb,
        max_megapixels=c.max_megapixels,
        examples=c.examples,
        corrected=c.corrected,
        trust=c.trust,
        device=c.device,
        allow_host=c.allow_host,
        root_path=c.root_path,
        page=c.page,
    ) as address:
        what = "page" if c.page else "interface"
        if not is_loopback(c.host):
            print(
                f"redoseg: every computer that reaches {c.host} can use the {what}, without a password; for this "
                "computer alone, remove --host",
                file=sys.stderr,
            )
        print(f"the {what} is at {address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
    return DONE


def run_prepare(arguments: Sequence[str]) -> int:
    command = parse(Prepare, "prepare", arguments)
    from redoseg.data import ARCHIVES, READERS, cache_folder, fetch, parts_of, prepare, read_splits

    sources: list[str | Path] = list(command.source)
    check_folder(command.out)
    if command.splits:
        read_splits(command.splits)  # a mistake in it should be known before the work
    if command.download:
        elsewhere = next((source for source in sources if is_address(source)), None)
        if elsewhere is not None:
            raise ConfigError(f"--download needs a folder on this machine, but --source is {elsewhere}. Remove one.")
        sources = sources or [cache_folder(name) for name in command.name.split("+")]
        with progress("downloading", in_bytes=True) as advance:
            for name, folder in parts_of(command.name, [Path(source) for source in sources]):
                for note in fetch(name, folder, lambda file, done, total: advance(done, total, file)):
                    say(f"note: {note}")
    if not sources:
        if command.name not in READERS and Path(command.name).exists():
            raise ConfigError(
                f"{command.name!r} is a path, but the name of a set is needed. "
                "For your own pictures: redoseg prepare folder --source"
            )
        parts_of(command.name, [Path()] * len(command.name.split("+")))  # is it the name of a set at all?
        what = "a folder of pictures" if command.name == "folder" else f"the folder of {command.name}"
        fetched = all(name in ARCHIVES for name in command.name.split("+"))
        raise ConfigError(
            f"--source is missing: {what} is needed. Add --source DIR{' or --download' if fetched else ''}."
        )
    with progress("preparing") as advance:
        try:
            prepared = prepare(
                command.name,
                sources,
                command.out,
                command.size,
                nearest=command.nearest,
                splits=command.splits,
                workers=command.workers,
                on_item=advance,
                mask_values=command.mask_values,
            )
        except KeyboardInterrupt:
            say(f"stopped {signals.how()}; the same command continues where it stopped")
            return STOPPED
    before = f" ({prepared.found} of them were done before)" if prepared.found else ""
    say(f"{prepared.pictures} pictures prepared at {command.size} px in {command.out}{before}")
    for note in prepared.notes:
        say(f"note: {note}")
    return list_failed(prepared.bad, prepared.pictures)


def run_data(arguments: Sequence[str]) -> int:
    command = parse(Data, "data", arguments)
    from redoseg.data import contact_sheet, open_prepared

    sheet = command.sheet or command.path / "contact-sheet.png"
    images = open_prepared(command.path)
    check_file(sheet)
    say(f"{images.name}: {len(images)} pictures of {images.size} px, prepared from {images.source}")
    for split in dict.fromkeys(images.splits):
        part = images.subset(split)
        say(f"{split or 'in no split'}: {len(part)} pictures, {int(part.labelled.sum())} with masks")
    share = images.object_share()
    if share is not None:
        say(f"the object covers {100 * share:.1f} % of the labelled pixels")
    say(f"skipped when it was made: {len(images.bad)}")
    for note in images.notes:
        say(f"note: {note}")
    buffer = io.BytesIO()
    contact_sheet(images).save(buffer, "PNG")
    write_atomic(sheet, buffer.getvalue())
    say(f"contact sheet: {sheet}")
    return DONE


def run_quantize(arguments: Sequence[str]) -> int:
    command = parse(Quantize, "quantize", arguments)
    from redoseg.inference.quantize import quantize

    check_file(command.out)
    note_unfinished(command.model)
    made = quantize(command.model, command.pictures, command.out)
    say(f"int8 model written to {command.out}, its ranges of values measured on {made.pictures} pictures")
    for note in made.notes:
        say(f"note: {note}")
    return DONE


def run_redraw(arguments: Sequence[str]) -> int:
    command = parse(Redraw, "redraw", arguments)
    from redoseg.inference.redraw import RedrawModel
    from redoseg.inference.redraw_files import redraw_photo

    c = command
    note_unfinished(c.model)
    if c.gif and c.mp4:
        raise ConfigError("--gif cannot be combined with --mp4, since each makes one file: choose one")
    film: Film | None = "gif" if c.gif else "mp4" if c.mp4 else None
    check_file(c.out) if film else check_folder(c.out)
    made = redraw_photo(
        RedrawModel(c.model),
        c.photo,
        c.out,
        count=c.count,
        seed=c.seed,
        what=c.what,
        like=c.like,
        film=film,
        overwrite=c.overwrite,
    )
    say(
        f"{'animation' if c.gif else 'film'}: {made.files[-1]}"
        if film
        else f"{c.count} drawings in {c.out}, all on {made.files[-1]}"
    )
    for note in made.notes:
        say(f"note: {note}")
    return DONE


def run_compare(arguments: Sequence[str]) -> int:
    command = parse(Compare, "compare", arguments)
    from redoseg.evaluation.compare import compare
    from redoseg.evaluation.tables import markdown_table

    c = command
    if c.out:
        check_folder(c.out)
    masks = _named_folders(c.masks)
    try:
        with progress("comparing") as advance:
            result = compare(
                c.data,
                models=c.model,
                methods=c.methods,
                masks=masks,
                split=c.split or None,
                size=c.size,
                seed=c.seed,
                edges=c.edges,
                out=c.out,
                jobs=c.jobs,
                fresh=c.fresh,
                overwrite=c.overwrite,
                tune=c.tune,
                mask_values=c.mask_values,
                on_item=lambda done, total, row: advance(done, total, row),
            )
    except KeyboardInterrupt:
        again = "without --fresh it" if c.fresh else "the same command"
        print(f"redoseg: stopped {signals.how()}; {again} continues where it stopped", file=sys.stderr)
        return STOPPED
    if c.as_json:
        print(json.dumps(result))
    else:
        say(markdown_table(result))
        if c.out:
            say(f"table, figures and pictures: {c.out}")
    missing = _report_set(result, c.as_json)
    return IN_PART if result["failed"] else missing


def _named_folders(given: Sequence[str]) -> dict[str, str]:
    """The folders of `--masks NAME=FOLDER` by name."""
    found: dict[str, str] = {}
    for one in given:
        name, sign, folder = one.partition("=")
        if not (name and sign and folder):
            raise ConfigError(f"--masks is {one!r}, but needs a name and a folder, as in rembg=masks/rembg.")
        if name in found:
            raise ConfigError(f"--masks has the name {name} twice. Choose another name for one of the folders.")
        found[name] = folder
    return found


def run_study(arguments: Sequence[str]) -> int:
    command = parse(Study, "study", arguments)
    from redoseg.study.run import Result, StudyFolder, load_study, run_study
    from redoseg.study.table import floors_of, write_table

    study = load_study(command.study)
    out = command.out or Path("studies") / study.name
    check_folder(out)

    def report(result: Result, done: int, total: int) -> None:
        iou = result["outcome"].get("scores", {}).get("iou")
        figure = "diverged" if iou is None else f"iou {iou:.3f}"
        say(f"run {done} of {total}: {result['row']}, seed {result['seed']}: {figure}, {result['seconds']:.0f} s")

    try:
        results, missing = run_study(
            study, out, jobs=command.jobs, device=command.device, minutes=command.minutes, on_run=report
        )
    except KeyboardInterrupt:
        say(f"stopped {signals.how()}; continue with: redoseg study {in_shell(command.study)} --out {in_shell(out)}")
        return STOPPED
    say(write_table(study, results, floors_of(study), StudyFolder(out)))
    if missing:
        say(
            f"{missing} of {missing + len(results)} runs are still missing; "
            f"continue with: redoseg study {in_shell(command.study)} --out {in_shell(out)}"
        )
    return IN_PART if missing else DONE


def run_doctor(arguments: Sequence[str]) -> int:
    command = parse(Doctor, "doctor", arguments)
    from redoseg.cli.doctor import examine, lines

    found = examine()
    print(json.dumps(found) if command.as_json else "\n".join(lines(found)))
    return DONE


def run_completion(arguments: Sequence[str]) -> int:
    command = parse(Completion, "completion", arguments)
    from redoseg.cli.completion import script

    verbs, benches = ({name: kind for name, (kind, _) in table.items()} for table in (VERBS, BENCHES))
    print(script(command.shell, verbs, benches), end="")
    return DONE


VERBS: dict[str, tuple[type[Any], Callable[[Sequence[str]], int]]] = {
    "train": (Train, run_train),
    "refine": (Refine, run_refine),
    "evaluate": (Evaluate, run_evaluate),
    "segment": (Segment, run_segment),
    "serve": (Serve, run_serve),
    "prepare": (Prepare, run_prepare),
    "data": (Data, run_data),
    "quantize": (Quantize, run_quantize),
    "redraw": (Redraw, run_redraw),
    "export": (Export, run_export),
    "push": (Push, run_push),
    "compare": (Compare, run_compare),
    "study": (Study, run_study),
    "bench": (Bench, run_bench),
    "doctor": (Doctor, run_doctor),
    "completion": (Completion, run_completion),
}
