"""The IoU of each image in a study's table: made-up rows with known differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redoseg.config.schema import Config
from redoseg.errors import ConfigError, DataError
from redoseg.study.run import Row, Study, load_study
from redoseg.study.scores import row_scores, scores_table, two_level_interval

ROWS = ("flowers: both", "flowers: disc", "faces: both", "faces: disc")
IMAGES = 40
BASE = np.random.default_rng(0).uniform(0.3, 0.7, IMAGES)


def a_study(report: tuple[str, ...] = ("dev",), **others: Any) -> Study:
    rows = tuple(Row(name, name.partition(":")[0], Config(), report) for name in ROWS)
    return Study("made", "Made up", rows, (0, 1, 2), 0.7, **({"reference": "both"} | others))


def result(row: str, seed: int, *ious: np.ndarray, test: float = 0.9) -> dict[str, Any]:
    """A run with the IoUs of its images after the first stage and after each round."""
    names = [f"round {n}" if n else "first stage" for n in range(len(ious))]
    entries = [
        {"after": name, "size": 128, "edges": "plain", "dev": list(iou), "test": [test] * 5}
        for name, iou in zip(names, ious, strict=True)
    ]
    outcome = {"sizes": [0.3, 0.7]} if ious else {"step": 40, "health": "diverged"}
    return {"row": row, "seed": seed, "picture_scores": entries, "outcome": outcome}


def test_a_known_difference_is_found_image_by_image() -> None:
    results = [result("flowers: both", s, BASE, BASE + 0.1) for s in range(3)]
    results += [result("flowers: disc", s, BASE - 0.1, BASE + 0.05 + 0.01 * s) for s in range(3)]
    both, disc = row_scores(a_study(), results, "dev")
    assert (both["row"], both["reference"], both["difference"], both["interval"]) == ("flowers: both", None, None, None)
    assert both["iou"] == pytest.approx(BASE.mean() + 0.1)
    assert both["stages"] == pytest.approx({"first stage": BASE.mean(), "round 1": BASE.mean() + 0.1})
    assert disc["reference"] == "flowers: both"
    assert disc["iou"] == pytest.approx(BASE.mean() + 0.06)
    assert disc["difference"] == pytest.approx(-0.04)
    # images differ by nothing, seeds by 0.01: the whole interval comes from the seeds
    assert disc["interval"] == pytest.approx((-0.05, -0.03))
    assert (disc["runs"], disc["images"]) == (3, IMAGES)


def test_the_interval_covers_seeds_and_images() -> None:
    images = np.random.default_rng(1).normal(0.1, 0.05, 400)
    alone = two_level_interval(np.stack([images, images]))
    half = 1.96 * images.std() / np.sqrt(len(images))
    assert alone == pytest.approx((images.mean() - half, images.mean() + half), abs=half / 5)
    seeds = two_level_interval(np.stack([images - 0.1, images, images + 0.1]))
    assert seeds[1] - seeds[0] > 5 * (alone[1] - alone[0])


def test_test_is_unseen_until_it_is_asked_for() -> None:
    results = [result(row, 0, BASE, test=0.1234) for row in ROWS]
    hidden, shown = ("\n".join(scores_table(study, results)) for study in (a_study(), a_study(report=("dev", "test"))))
    assert "split dev" in hidden
    assert "split test" not in hidden
    assert "12.3" not in hidden
    assert "split test" in shown
    assert "| flowers: both | 12.3 | 12.3 |" in shown
    one = replace(a_study(), rows=(replace(a_study().rows[0], report=("test",)), *a_study().rows[1:]))
    assert "\n".join(scores_table(one, results)).count("12.3") == 2  # of one row alone


def test_rows_are_compared_within_their_group_alone() -> None:
    results = [result("flowers: both", 0, BASE), result("faces: disc", 0, BASE)]
    both, disc = row_scores(a_study(), results, "dev")
    assert both["difference"] is None
    assert (disc["row"], disc["reference"], disc["difference"]) == ("faces: disc", "faces: both", None)
    assert "| faces: disc |" in "\n".join(scores_table(a_study(), results))


def test_seeds_that_only_one_row_has_are_not_compared() -> None:
    results = [result("flowers: both", s, BASE) for s in (0, 1)]
    results += [result("flowers: disc", s, BASE + 0.1 * s) for s in (1, 2)]
    disc = row_scores(a_study(), results, "dev")[1]
    assert disc["difference"] == pytest.approx(0.1)  # seed 1
    assert disc["iou"] == pytest.approx(BASE.mean() + 0.15)
    assert row_scores(a_study(), [results[0], results[3]], "dev")[1]["difference"] is None


def test_a_run_without_a_second_stage_counts_with_its_last_scores() -> None:
    zero = np.zeros(IMAGES)
    results = [result("flowers: both", 0, BASE, BASE), result("flowers: both", 1, zero)]
    (both,) = row_scores(a_study(), results, "dev")
    assert both["runs"] == 2
    assert both["iou"] == pytest.approx(BASE.mean() / 2)
    assert both["stages"]["round 1"] == pytest.approx(BASE.mean())


def test_a_run_that_diverged_counts_with_nothing() -> None:
    results = [result("flowers: both", s, BASE, BASE) for s in (0, 1)] + [result("flowers: both", 2)]
    results += [result("flowers: disc", 0, BASE), result("flowers: disc", 1), result("flowers: disc", 2)]
    both, disc = row_scores(a_study(), results, "dev")
    assert (both["runs"], disc["runs"]) == (3, 3)
    assert both["iou"] == pytest.approx(2 / 3 * BASE.mean())
    assert disc["iou"] == pytest.approx(1 / 3 * BASE.mean())
    assert disc["difference"] == pytest.approx(-1 / 3 * BASE.mean())
    assert both["stages"] == pytest.approx({"first stage": BASE.mean(), "round 1": BASE.mean()})


def test_without_scores_there_is_no_section() -> None:
    assert scores_table(a_study(), [{"row": "flowers: both", "seed": 0, "picture_scores": []}]) == []
    assert scores_table(a_study(), [{"row": "flowers: both", "seed": 0}]) == []  # of an earlier version


def test_other_images_are_refused() -> None:
    results = [result("flowers: both", 0, BASE), result("flowers: disc", 0, BASE[1:])]
    with pytest.raises(DataError, match="39 and 40 images"):
        row_scores(a_study(), results, "dev")


def test_the_keys_of_a_study_file(tmp_path: Path) -> None:
    path = tmp_path / "made.toml"
    row = '[[row]]\nname = "flowers: both"\n'
    path.write_text(row)
    assert (load_study(str(path)).reference, load_study(str(path)).rows[0].report) == ("", ("dev",))
    path.write_text(
        'reference = "both"\nreport = ["dev", "test"]\n' + row + row.replace("both", "a") + 'report = ["b"]'
    )
    assert load_study(str(path)).reference == "both"
    assert [one.report for one in load_study(str(path)).rows] == [("dev", "test"), ("b",)]
    for line, text in (('reference = "none"', "ends with the reference 'none'"), ("report = [1]", "report is")):
        path.write_text(line + "\n" + row)
        with pytest.raises(ConfigError, match=text):
            load_study(str(path))
