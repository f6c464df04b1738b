"""A table of many runs: rows of settings, several seeds each. A study can be stopped and continued at any time.

A study is a TOML file: a `title`, the base `recipe` and its `settings`, `seeds`, `good` (the IoU from which on masks
count as good), and one `[[row]]` after another with a `name`, and its own `recipe`, `settings` and `group` if any.
For runs with `watch.picture_scores` it may also have `reference` (rows are compared with the row of their group whose
name ends with it) and `report` (splits in the table; ["dev"] if it is missing, so that nobody sees `test` before
settings are fixed). A row whose settings are fixed may have a `report` of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from redoseg.config.recipe import flat, from_values, load_recipe, nested, to_toml, to_values
from redoseg.config.schema import Config, RefineConfig
from redoseg.errors import ConfigError, RunError, did_you_mean
from redoseg.files import at_home, describe_error, locked, printable, text_of, write_atomic
from redoseg.run_folder import Contents, Entry, Outcome, RunFolder, read_lines
from redoseg.system import cores


class Result(TypedDict):
    """A finished run: a line of `results.jsonl`."""

    key: str
    """Hash of its settings and seed."""
    row: str
    seed: int
    steps: int
    """Of the first stage."""
    seconds: float
    grey: float | None
    """Share of undecided pixels in the last step's masks; None where there was no first stage."""
    picture_scores: NotRequired[list[dict[str, Any]]]
    """Lines of `picture_scores.jsonl`; runs of earlier versions have none."""
    course: list[list[float]]
    """Step and IoU, whenever the labelled images were scored in the first stage."""
    outcome: Outcome
    contents: NotRequired[Contents]
    """Hashes of what it read; runs of earlier versions have none."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a configuration to run with every seed."""

    name: str
    group: str
    config: Config
    report: tuple[str, ...] = ("dev",)
    """Splits on which the table shows its scores."""


@dataclass(frozen=True)
class Study:
    """What to run, and how to judge it."""

    name: str
    title: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    good: float
    """IoU from which on masks count as good."""
    reference: str = ""
    """End of the name of the row that the others of its group are compared with; empty for none."""


# ---------------------------------------------------------------------------------------------------- reading


def study_names() -> list[str]:
    """Names of the studies that ship with the package."""
    folder = resources.files("redoseg") / "studies"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load_study(study: str) -> Study:
    """A study file, or the name of one that ships with the package. Raises ConfigError for a mistake in it."""
    where = f"study {study}"
    try:
        if at_home(study).is_file():
            text = at_home(study).read_bytes()
        elif study in study_names():
            text = (resources.files("redoseg") / "studies" / f"{study}.toml").read_bytes()
        else:
            names = ", ".join(study_names())
            hint = did_you_mean(study.removesuffix(".toml"), study_names(), "Did")
            raise ConfigError(f"{where}: there is no such file. {hint}Choose a TOML file or one of {names}.")
        values = tomllib.loads(text_of(text))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: it cannot be read as TOML ({describe_error(error)}). Correct the file.") from None
    kinds = {"title": str, "recipe": str, "settings": dict, "seeds": list, "good": float, "row": list}
    _check(values, kinds | {"reference": str, "report": list}, where)
    seeds = values.get("seeds", [0, 1, 2])
    if not (values.get("row") and seeds and all(type(s) is int and s >= 0 for s in seeds)):
        raise ConfigError(f"{where}: a study needs at least one [[row]], and seeds that are whole numbers from 0.")
    rows: list[Row] = []
    for number, row in enumerate(values["row"], 1):
        here = f"{where}, row {number}"
        _check(row, {"name": str, "group": str, "recipe": str, "settings": dict, "report": list}, here)
        if "name" not in row or row["name"] in [r.name for r in rows]:
            raise ConfigError(f"{here}: the row needs a name that no other row has. Add name = ...")
        base = load_recipe(row.get("recipe", values.get("recipe", "shapes")))
        settings = flat(values.get("settings", {})) | flat(row.get("settings", {}))
        config = from_values(nested(flat(to_values(base)) | settings), here)
        shown = row.get("report", values.get("report", ["dev"]))
        _check_splits(shown, here)
        rows.append(Row(row["name"], row.get("group", ""), config, tuple(shown)))
    reference = values.get("reference", "")
    if not any(row.name.endswith(reference) for row in rows):
        raise ConfigError(
            f"{where}: no row has a name that ends with the reference {reference!r}. Correct `reference`."
        )
    name = Path(study).stem
    good = float(values.get("good", 0.8))
    return Study(
        name=name, title=values.get("title", name), rows=tuple(rows), seeds=tuple(seeds), good=good, reference=reference
    )


def _check_splits(report: list[Any], where: str) -> None:
    if not all(isinstance(split, str) for split in report):
        raise ConfigError(f'{where}: report is {report}, but must be a list of splits, such as ["dev"].')


_KINDS = {str: "text", float: "a number", list: "a list", dict: "a table"}


def _check(values: dict[str, Any], kinds: dict[str, type], where: str) -> None:
    for key, value in values.items():
        if key not in kinds:
            raise ConfigError(f"{where}: unknown key {key}. Known keys: {', '.join(kinds)}.")
        if not isinstance(value, (int, float) if kinds[key] is float else kinds[key]):
            raise ConfigError(f"{where}: {key} is {value!r}, but must be {_KINDS[kinds[key]]}. Correct it.")


# ---------------------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class _Job:
    """One run of a study."""

    row: Row
    seed: int

    @property
    def config(self) -> Config:
        return replace(self.row.config, seed=self.seed, threads=1)

    @property
    def key(self) -> str:
        """Changes with any setting, but not when redoseg gains one that is off.

        `precision` does not count: a study continues where another one is quick. An outcome says `computed_in`.
        """
        plain, mine = flat(to_values(Config())), flat(to_values(self.config))
        given = {name: value for name, value in mine.items() if value != plain[name] and name != "precision"}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:16]

    def borrows_from(self, other: _Job) -> bool:
        """Whether the other's whole training is the first stage of this one."""
        return (
            bool(self.config.first_steps) and replace(self.config, refine=RefineConfig()) == other.config != self.config
        )


class StudyFolder:
    """The names of all files of a study."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.jsonl"
        self.table = path / "table.md"
        self.scores = path / "scores.json"
        self.figure = path / "figure.png"
        self.masks = path / "masks.png"
        self.course = path / "course.png"
        self.losses = path / "losses.png"
        self.runs = path / "runs"

    def run(self, row: str, seed: int, key: str) -> Path:
        """The folder of one run."""
        return self.runs / f"{_slug(row)}-seed{seed}-{key}"

    def of(self, job: _Job) -> Path:
        """The folder of that run."""
        return self.run(job.row.name, job.seed, job.key)

    def read(self) -> list[Result]:
        """The finished runs; without a line that a kill broke."""
        needed = {"key", "row", "seed", "seconds", "outcome"}
        return [cast(Result, line) for line in read_lines(self.results) if needed <= line.keys()]


OnRun = Callable[[Result, int, int], None]
"""Called with a finished run's result, the runs done and their total."""


def run_study(
    study: Study, out: Path, *, jobs: int = 0, device: str = "cpu", minutes: float = 0.0, on_run: OnRun | None = None
) -> tuple[list[Result], int]:
    """Train what is not done yet, several runs side by side; returns the results so far and how many are missing.

    A row whose second stage is off lends its training to the rows that differ from it in the second stage alone. If
    its weights are gone, they train that first stage themselves.

    Args:
        study: what to run. Runs whose settings have changed since are done again.
        out: the study's folder; a run that was stopped in it continues.
        jobs: runs side by side, each with one thread; 0 for one a core, or one a GPU.
        device: cpu or cuda; runs take the GPUs in turns.
        minutes: start no run after so long; 0 for no limit.
        on_run: called after each run.

    Raises RunError: another process works in the folder, or a run ends before its last step without divergence.
    """
    out = at_home(out)
    folder = StudyFolder(out)
    folder.runs.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with locked(out) as mine:
        if not mine:
            raise RunError(f"{printable(out)} is in use by another study. Wait, or choose another folder.")
        # a seed of every row before the next seed, so that a study cut short is still a comparison
        wanted = [_Job(row, seed) for seed in study.seeds for row in study.rows]
        keys = {job.key for job in wanted}
        finished = folder.read()
        write_atomic(folder.results, "".join(json.dumps(r) + "\n" for r in finished).encode())  # without torn lines
        results = {r["key"]: r for r in finished if r["key"] in keys}
        _refuse_other_images(wanted, results)
        waiting = [job for job in wanted if job.key not in results]
        gpus = _gpus() if device == "cuda" else 0
        with _Children() as running:
            while waiting or running.jobs:
                late = minutes and time.monotonic() - started > 60 * minutes
                while not late and len(running.jobs) < (jobs or gpus or cores()):
                    unfinished = [*waiting, *(job for job, _, _ in running.jobs)]
                    job = next((j for j in waiting if not any(map(j.borrows_from, unfinished))), None)
                    if job is None:
                        break
                    waiting.remove(job)
                    lender = next((j for j in wanted if job.borrows_from(j)), None)
                    running.start(job, folder.of(job), folder.of(lender) if lender else None, device, gpus)
                for done, result in running.finished():
                    results[done.key] = result
                    with open(folder.results, "a") as file:
                        file.write(json.dumps(result) + "\n")
                    borrowers = [*waiting, *(job for job, _, _ in running.jobs)]
                    for job in wanted:
                        if job.key in results and not any(b.borrows_from(job) for b in borrowers):
                            _tidy(folder.of(job))
                    if on_run is not None:
                        on_run(result, len(results), len(wanted))
                    _refuse_other_images(wanted, results)
                if late and not running.jobs:
                    break
                time.sleep(0.05)
    ordered = [results[job.key] for job in wanted if job.key in results]
    return ordered, len(wanted) - len(ordered)


def _refuse_other_images(jobs: Sequence[_Job], results: Mapping[str, Result]) -> None:
    """Raises RunError where runs of the same set read other pictures or masks: their rows cannot be compared."""
    seen: dict[object, tuple[tuple[str | None, str | None], _Job]] = {}
    for job in jobs:
        found = results[job.key].get("contents") if job.key in results else None
        if found:
            read = found["pictures"], found.get("watched")
            before, first = seen.setdefault((job.config.data, job.config.nets.regions, found["size"]), (read, job))
            if before != read:
                raise RunError(
                    f"the pictures in {printable(job.config.data.source)} were others for {job.row.name} (seed "
                    f"{job.seed}) than for {first.row.name} (seed {first.seed}), so the two cannot be compared. "
                    "Choose another --out, so that all runs read the same."
                )


class _Children:
    """The training processes; all end with the block."""

    def __init__(self) -> None:
        self.jobs: list[tuple[_Job, Path, subprocess.Popen[bytes]]] = []
        self.started = 0

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *error: object) -> None:
        for _, _, process in self.jobs:
            process.terminate()  # ends the step, saves, and can be continued
        for _, _, process in self.jobs:
            process.wait()

    def start(self, job: _Job, folder: Path, first_stage: Path | None, device: str, gpus: int) -> None:
        recipe = folder.with_suffix(".toml")
        write_atomic(recipe, to_toml(job.config).encode())
        command = [sys.executable, "-P", "-m", "redoseg", "train", str(recipe), "--out", str(folder)]
        files = RunFolder(folder)
        if not (files.config.exists() and files.state.exists()):  # not begun, or tidied up and then done again
            shutil.rmtree(folder, ignore_errors=True)
            if first_stage is not None and RunFolder(first_stage).state.exists():
                _borrow(first_stage, folder)
        if files.config.exists():
            command.append("--resume")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(self.started % gpus)
        self.started += 1
        said = open(folder.with_suffix(".txt"), "ab")  # noqa: SIM115  # the process's own
        with said:
            process = subprocess.Popen([*command, "--device", device], env=environment, stdout=said, stderr=said)
        self.jobs.append((job, folder, process))

    def finished(self) -> Iterator[tuple[_Job, Result]]:
        ended = [child for child in self.jobs if child[2].poll() is not None]
        self.jobs = [child for child in self.jobs if child not in ended]
        for job, folder, _ in ended:
            yield job, _result(job, folder)


def _result(job: _Job, folder: Path) -> Result:
    """What came of a run that has ended."""
    files = RunFolder(folder)
    try:
        outcome = files.read_outcome()
        if not outcome:
            raise ValueError("it has no outcome.json that can be read")
        if outcome.get("stopped"):
            raise ValueError("it was stopped")
    except (OSError, ValueError) as error:
        said = folder.with_suffix(".txt").read_text(errors="replace").strip().splitlines()
        why = said[-1] if said else str(error)
        raise RunError(f"{folder} did not finish ({why}). Run the study again.") from None
    entries = files.log.entries()
    course = [[e["step"], e["iou"]] for e in entries if "iou" in e and "refine_round" not in e]
    last = next((e for e in reversed(entries) if "grey" in e), Entry())
    result: Result = {
        "key": job.key,
        "row": job.row.name,
        "seed": job.seed,
        "steps": outcome["step"],
        "seconds": entries[-1].get("seconds", 0.0) if entries else 0.0,
        "grey": last.get("grey"),
        "picture_scores": read_lines(files.picture_scores),
        "course": course,
        "outcome": outcome,
    }
    contents = files.read_about().get("contents")
    if contents:
        result["contents"] = contents
    return result


def _borrow(first_stage: Path, folder: Path) -> None:
    """Begin a run where another has ended. config.json, by which a run is known, comes last."""
    ended, begun = RunFolder(first_stage), RunFolder(folder)
    begun.samples.mkdir(parents=True)
    for source, target in (
        (ended.state, begun.state),
        (ended.log.path, begun.log.path),
        (ended.config, begun.config),
    ):
        shutil.copyfile(source, target)


def _tidy(folder: Path) -> None:
    """Keep what explains a run; its weights are large and can be made again."""
    files = RunFolder(folder)
    for path in (files.state, files.refined, files.mask, files.redraw):
        path.unlink(missing_ok=True)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:48]
