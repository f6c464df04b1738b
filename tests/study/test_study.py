"""Tables of many runs: what a study file may say, runs that stop and continue, and what the table says of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from redoseg.config.recipe import differences, flat, load_recipe, recipe_names, to_values
from redoseg.errors import ConfigError, RunError
from redoseg.files import locked
from redoseg.study import run as studies
from redoseg.study.run import Study, StudyFolder, load_study, run_study, study_names
from redoseg.study.table import floors_of, kind, summary, write_table

SMOKE = """
title = "Smoke"
recipe = "shapes-published"
seeds = [0]
good = 0.6

[settings]
steps = 3
batch = 4
data = { size = 16, pictures = 16 }
nets = { extractor_width = 4, generator_width = 2, discriminator_width = 4, encoder_width = 4, latent = 4 }

[[row]]
name = "published"

[[row]]
group = "the report's"
name = "bce, its own"
recipe = "report/bce"

[[row]]
group = "the report's"
name = "too fast"
settings = { "optim.generator_rate" = 1e30 }
"""


@pytest.fixture
def smoke(tmp_path: Path) -> Path:
    (tmp_path / "smoke.toml").write_text(SMOKE)
    return tmp_path / "smoke.toml"


@pytest.mark.slow
def test_a_study_runs_stops_and_continues(smoke: Path, tmp_path: Path) -> None:
    study, out = load_study(str(smoke)), tmp_path / "out"
    seen: list[str] = []

    def stop_after_one(result: studies.Result, done: int, total: int) -> None:
        seen.append(result["row"])
        assert (done, total) == (1, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, jobs=1, on_run=stop_after_one)
    with open(out / "results.jsonl", "a") as file:
        file.write('{"torn')
    results, missing = run_study(study, out, jobs=2, on_run=lambda r, *_: seen.append(r["row"]))
    assert missing == 0
    assert seen[0] == "published"
    assert sorted(seen) == sorted(row.name for row in study.rows)  # none twice
    assert [r["row"] for r in results] == [row.name for row in study.rows]
    assert run_study(study, out, on_run=lambda *_: pytest.fail("nothing was left to do"))[0] == results

    first = results[0]
    assert first["steps"] == 3
    assert 0 <= first["outcome"]["scores"]["iou"] <= 1
    folder = next((out / "runs").glob("published-seed0-*/"))
    assert {p.name for p in folder.iterdir()} >= {"log.jsonl", "samples", "config.json", "report.md"}
    assert not list((out / "runs").glob("*/*.safetensors"))  # can be made again

    table = write_table(study, results, floors_of(study), StudyFolder(out))
    assert (out / "table.md").read_text() == table
    for name in ("figure.png", "masks.png", "course.png", "losses.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "| too fast | 0.0 | 0.0 | 0.0 | 1 | 0 % | 0.0 | 1 diverged | 1 diverged |" in table
    assert "| the report's | IoU: median | worst" in table

    assert {r["outcome"]["computed_in"] for r in results if "sizes" in r["outcome"]} == {"float32"}

    other = SMOKE.replace("[settings]\n", '[settings]\nprecision = "bfloat16"\n')  # the same study on another machine
    assert other != SMOKE
    smoke.write_text(other)
    assert run_study(load_study(str(smoke)), out, on_run=lambda *_: pytest.fail("nothing was left to do"))[1] == 0

    smoke.write_text(SMOKE.replace("1e30", "2e30"))  # only what has changed is run again
    again: list[str] = []
    run_study(load_study(str(smoke)), out, on_run=lambda r, *_: again.append(r["row"]))
    assert again == ["too fast"]


def test_no_run_is_started_after_the_time(smoke: Path, tmp_path: Path) -> None:
    results, missing = run_study(load_study(str(smoke)), tmp_path / "out", jobs=1, minutes=1e-9)
    assert (results, missing) == ([], 3)


def test_every_row_comes_before_the_next_seed(smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, int]] = []
    monkeypatch.setattr(studies._Children, "start", lambda _, job, *rest: started.append((job.row.name, job.seed)))
    smoke.write_text(SMOKE.replace("seeds = [0]", "seeds = [4, 2]"))
    study = load_study(str(smoke))
    run_study(study, tmp_path / "out", jobs=9)
    assert started == [(row.name, seed) for seed in (4, 2) for row in study.rows]


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        ({"size": 16, "pictures": "a"}, False),
        ({"size": 16, "pictures": "b"}, True),
        ({"size": 16, "pictures": "a", "watched": "x"}, True),
        ({"size": 32, "pictures": "b"}, False),  # the same pictures, larger
        (None, False),  # of an earlier version
    ],
)
def test_runs_of_a_study_read_the_same_pictures(
    second: dict[str, Any] | None, refused: bool, smoke: Path, tmp_path: Path
) -> None:
    study, out = load_study(str(smoke)), tmp_path / "out"
    out.mkdir()
    lines = []
    for row, contents in zip(study.rows, ({"size": 16, "pictures": "a"}, second), strict=False):
        line: dict[str, Any] = {"key": studies._Job(row, 0).key, "row": row.name, "seed": 0}
        line |= {"seconds": 1.0, "outcome": {}} | ({} if contents is None else {"contents": contents})
        lines.append(json.dumps(line) + "\n")
    (out / "results.jsonl").write_text("".join(lines))
    if refused:
        with pytest.raises(RunError, match=r"were others for bce, its own \(seed 0\) than for published \(seed 0\)"):
            run_study(study, out, minutes=1e-9)
    else:
        assert run_study(study, out, minutes=1e-9)[1] == 1


@pytest.mark.parametrize(("left", "resumed"), [(("config.json",), False), (("config.json", "state.safetensors"), True)])
def test_a_run_that_was_tidied_up_is_begun_again(
    left: tuple[str, ...], resumed: bool, smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = load_study(str(smoke)), tmp_path / "published-seed0"
    folder.mkdir()
    for name in left:
        (folder / name).touch()
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: commands.append(command))
    studies._Children().start(studies._Job(study.rows[0], 0), folder, None, "cpu", 0)
    assert ("--resume" in commands[0]) == folder.exists() == resumed


def test_one_study_at_a_time_in_a_folder(smoke: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out) as mine:
        assert mine
        with pytest.raises(RunError, match=r"out is in use by another study"):
            run_study(load_study(str(smoke)), out)


@pytest.mark.slow
def test_a_stopped_study_leaves_no_process_and_continues_in_the_middle_of_a_run(
    start: Callable[..., subprocess.Popen[str]], smoke: Path, tmp_path: Path
) -> None:
    long = SMOKE.replace("steps = 3", "steps = 100000\nwatch = { log_every = 1, checkpoint_every = 5 }")
    smoke.write_text(long)
    out = tmp_path / "out"
    process = start("-m", "redoseg", "study", smoke, "--out", out, "--jobs", "1")
    deadline = time.monotonic() + 60
    while not (logs := [p for p in out.glob("runs/*/log.jsonl") if p.read_text().count("\n") > 7]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)  # as Ctrl-C
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert f"continue with: redoseg study {smoke} --out {out}" in said
    reached = json.loads(logs[0].read_text().splitlines()[-1])["step"]
    time.sleep(0.3)
    assert json.loads(logs[0].read_text().splitlines()[-1])["step"] == reached
    assert (logs[0].parent / "state.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_ends_badly_is_said(smoke: Path, tmp_path: Path) -> None:
    smoke.write_text(SMOKE.replace("pictures = 16", 'pictures = 16, source = "nowhere"'))
    with pytest.raises(RunError, match=r"did not finish \(redoseg: nowhere does not exist.*Run the study ag"):
        run_study(load_study(str(smoke)), tmp_path / "out", jobs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title =", "titel ="), "unknown key titel. Known keys: title, recipe, settings, seeds, good, row,"),
        (("seeds = [0]", "seeds = [0.5]"), "seeds that are whole numbers from 0"),
        (("seeds = [0]", "seeds = 3"), "seeds is 3, but must be a list"),
        (('name = "too fast"', 'name = "published"'), "row 3: the row needs a name that no other row has"),
        (('name = "too fast"', ""), "row 3: the row needs a name that no other row has"),
        (("optim.generator_rate", "optim.generator_rat"), "did you mean optim.generator_rate?"),
        (("shapes-published", "shapes-publish"), "recipe shapes-publish does not exist"),
        (("[[row]]", "[[row]"), "cannot be read as TOML"),
    ],
)
def test_mistakes_in_a_study(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(SMOKE.replace(*change))
    with pytest.raises(ConfigError) as caught:
        load_study(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_study() -> None:
    with pytest.raises(
        ConfigError, match=rf"study nothing: there is no such file. Choose a TOML file or one of {study_names()[0]}"
    ):
        load_study("nothing")


@pytest.mark.parametrize("name", study_names())
def test_studies_that_ship(name: str) -> None:
    study = load_study(name)
    assert len({row.name for row in study.rows}) == len(study.rows)
    # no two rows are the same run under two names
    settings = [json.dumps(to_values(row.config), sort_keys=True) for row in study.rows]
    assert len(set(settings)) == len(settings)


def test_a_study_may_name_recipes_by_their_old_names(smoke: Path) -> None:
    new = load_study(str(smoke))
    smoke.write_text(SMOKE.replace("report/bce", "seed/bce"))
    assert load_study(str(smoke)) == new


def test_each_row_of_the_ablation_changes_what_it_says() -> None:
    rows = {row.name: row.config for row in load_study("missing").rows}
    base = rows["published objective"]
    for name, config in rows.items():
        changed = {line.split(":")[0].split(".")[0] for line in differences(base, config)}
        if name != "published objective" and not name.startswith(("bce", "single", "two", "tweaks")):
            assert changed, name
            assert changed <= {"nets", "objective", "optim"}, name  # what test_players' switches cover


def test_the_reports_variants_are_recipes() -> None:
    variants = {name: flat(to_values(load_recipe(name))) for name in recipe_names() if name.startswith("report/")}
    assert set(variants) == {"report/single-generator", "report/bce", "report/two-generators", "report/tweaks"}
    single, bce = variants["report/single-generator"], variants["report/bce"]
    assert {k for k in bce if bce[k] != single[k]} == {"objective.adversarial"}
    two = variants["report/two-generators"]
    assert {k for k in bce if bce[k] != two[k]} == {"objective.redraw", "objective.latent_from"}
    tweaks = variants["report/tweaks"]
    assert {"data.value_range", "nets.activation"} <= {k for k in bce if bce[k] != tweaks[k]}


# ------------------------------------------------------------------------------------------------------ table


def result(row: str, seed: int, iou: float, collapsed: bool = False, grey: float = 0.02) -> dict[str, Any]:
    outcome = {"collapsed": collapsed, "sizes": [0.5, 0.5], "scores": {"iou": iou}}
    return {"row": row, "seed": seed, "grey": grey, "seconds": 60.0, "course": [], "outcome": outcome}


def test_what_became_of_the_masks(smoke: Path) -> None:
    study = load_study(str(smoke))
    told: Callable[[dict[str, Any]], str] = lambda r: kind(study, r, 0.4)  # noqa: E731
    assert told(result("x", 0, 0.61)) == "good"
    assert told(result("x", 0, 0.59)) == "partial"
    assert told(result("x", 0, 0.39)) == "random"
    assert told(result("x", 0, 0.59, grey=0.2)) == "grey"
    assert told(result("x", 0, 0.61, grey=0.2)) == "good"  # soft, and right where it is cut
    assert told(result("x", 0, 0.61, collapsed=True)) == "one region"
    assert told({"row": "x", "grey": None, "outcome": {"step": 3, "health": "diverged"}}) == "diverged"


def test_the_table_counts(smoke: Path) -> None:
    study: Study = load_study(str(smoke))
    results = [result("published", 0, 0.9), result("published", 1, 0.3, collapsed=True), result("published", 2, 0.7)]
    (line,) = summary(study, results, {"shapes": 0.4})
    assert (line["median"], line["worst"], line["best"], line["runs"]) == (0.7, 0.3, 0.9, 3)
    assert line["collapsed"] == pytest.approx(1 / 3)
    assert line["kinds"] == {"good": 2, "one region": 1}


def test_the_last_weights_against_the_best_of_the_log(smoke: Path) -> None:
    study: Study = load_study(str(smoke))
    slipped = result("published", 0, 0.6) | {"course": [[1, 0.5], [2, 0.75], [3, 0.6]]}
    level = result("published", 1, 0.9) | {"course": [[1, 0.5], [3, 0.9]]}
    (line,) = summary(study, [slipped, level], {"shapes": 0.4})
    assert line["behind"] == pytest.approx(0.15)


LENT = """
title = "Lent"
recipe = "shapes-published"
seeds = [0]

[settings]
steps = 3
batch = 4
data = { size = 16, pictures = 16 }
nets = { extractor_width = 4, generator_width = 2, discriminator_width = 4, encoder_width = 4, latent = 4 }
watch = { picture_scores = true, collapse_share = 0.0 }

[[row]]
name = "both"
settings = { "refine.rounds" = 1, "refine.steps" = 20, "refine.batch" = 4 }

[[row]]
name = "first stage alone"

[[row]]
name = "disc"
settings = { "refine.rounds" = 1, "refine.steps" = 20, "refine.batch" = 4, "refine.start" = "disc" }
"""


class Lent(NamedTuple):
    """A finished study: two rows share a first stage, the third has none."""

    study: Study
    out: Path
    order: list[str]
    results: list[studies.Result]


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Lent:
    folder = tmp_path_factory.mktemp("lent")
    (folder / "lent.toml").write_text(LENT)
    study, order = load_study(str(folder / "lent.toml")), []
    results, _ = run_study(study, folder / "out", jobs=2, on_run=lambda r, *_: order.append(r["row"]))
    return Lent(study, folder / "out", order, results)


@pytest.mark.slow
def test_rows_that_differ_in_the_second_stage_share_a_first_stage(lent: Lent) -> None:
    _, out, order, results = lent
    assert order.index("first stage alone") < order.index("both")  # whatever their order in the file
    by_row = {r["row"]: r for r in results}
    logs = {
        folder.name.partition("-seed")[0]: [
            json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()
        ]
        for folder in (out / "runs").glob("*/")
    }
    first_stage = [line for line in logs["both"] if not {"refining", "refine_round"} & line.keys()]
    assert first_stage == logs["first-stage-alone"]  # its very lines, times and all
    assert "refine_round" in logs["both"][-1]
    assert [s["after"] for s in by_row["both"]["picture_scores"]] == ["first stage", "round 1"]
    assert by_row["both"]["picture_scores"][0] == by_row["first stage alone"]["picture_scores"][0]
    assert [s["after"] for s in by_row["disc"]["picture_scores"]] == ["round 1"]
    assert not list((out / "runs").glob("*/*.safetensors"))  # nobody borrows any more


@pytest.mark.slow
@pytest.mark.slow
def test_a_row_without_a_first_stage_to_borrow_trains_it(lent: Lent, tmp_path: Path) -> None:
    """In another folder, which has the other rows' results alone."""
    study, out, _, results = lent
    lines = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(line for line in lines if '"row": "both"' not in line))
    again, missing = run_study(study, tmp_path, jobs=1)
    assert missing == 0
    assert [r["picture_scores"] for r in again] == [r["picture_scores"] for r in results]
