"""The shapes in the signatures of networks and training hold in a training of all stages, and a wrong one is refused.

In a process of its own: checks are built in when a module is imported. `make test-slow` has them in all that it runs.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import TINY, Start

CODE = """
import json, sys
import pytest

from pathlib import Path
from jaxtyping import install_import_hook
install_import_hook(["redoseg.nets", "redoseg.train"], "beartype.beartype")

import torch
from rich.console import Console
from redoseg.config.recipe import from_values
from redoseg.nets.mask_extractor import MaskExtractor
from redoseg.train import run

config = from_values(json.loads(sys.argv[1]), "tests")
run.run(config, Path(sys.argv[2]), False, "cpu", Console(quiet=True))
MaskExtractor(config.nets)(torch.rand(1, 1, 16, 16))
"""
# the whole game, a round of the second stage, drawings
STAGES = TINY | {
    "steps": 2,
    "data": TINY["data"] | {"size": 32, "pictures": 8},
    "objective": {
        "augment": True,
        "floor_weight": 1.0,
        "centre_weight": 1.0,
        "border_weight": 1.0,
        "self_redraw_weight": 1.0,
    },
    "refine": {"rounds": 1, "steps": 20, "batch": 4, "size": 64, "student": "unet", "student_width": 4},
    "redraw": {"steps": 2},
    "watch": {"collapse_share": 0.0},
}


@pytest.mark.slow
def test_a_training_has_the_shapes_of_its_signatures_and_a_wrong_one_is_refused(start: Start, tmp_path: Path) -> None:
    process = start("-c", CODE, json.dumps(STAGES), tmp_path / "run")
    printed = process.communicate(timeout=300)[1]
    assert (tmp_path / "run" / "outcome.json").is_file(), printed
    assert "TypeCheckError" in printed
