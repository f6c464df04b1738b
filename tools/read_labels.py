"""Write labels of a folder of photographs, and read them back with the labelling tools' own readers.

It needs pycocotools, labelme and label-studio-converter, in an environment of their own. labelme's window and the
other parts of both, which need much more, are not loaded.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
from numpy.typing import NDArray

from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.sources import list_pictures

Bools = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="as for `redoseg segment`")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    arguments = parser.parse_args()
    segmenter = Segmenter(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder).resolve()
        images = {path.stem: path for path in list_pictures([arguments.photos], out).images}
        truth = {stem: segmenter(path) for stem, path in images.items()}
        for kind in ("coco", "labelme", "labelstudio"):
            segment_paths(segmenter, arguments.photos, out / kind, kind=kind, polygons=kind == "coco")
        for name, found in (
            ("pycocotools", by_pycocotools(out / "coco" / "coco.json")),
            ("labelme", by_labelme(out / "labelme", truth)),
            ("label-studio-converter", by_label_studio(out / "labelstudio" / "labelstudio.json")),
        ):
            ious = [iou(found[stem], mask) for stem, mask in truth.items() if mask.any()]
            version = importlib.metadata.version(name)
            print(
                f"{name} {version}: {len(ious)} masks of {len(truth)} photographs, IoU of what it reads with the mask: "
                f"mean {np.mean(ious):.4f}, least {np.min(ious):.4f}"
            )


def iou(a: Bools, b: Bools) -> float:
    return float((a & b).sum() / (a | b).sum())


def by_pycocotools(file: Path) -> dict[str, Bools]:
    from pycocotools.coco import COCO

    coco = COCO(file)
    found = {}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        (image,) = coco.loadImgs(annotation["image_id"])
        found[Path(image["file_name"]).stem] = coco.annToMask(annotation) > 0
    return found


def by_labelme(folder: Path, truth: dict[str, Bools]) -> dict[str, Bools]:
    for window in ("labelme.utils.qt", "PyQt5"):  # which reads nothing
        sys.modules[window] = MagicMock()
    reader: Any = importlib.import_module("labelme._label_file")
    shapes: Any = importlib.import_module("labelme.utils.shape")
    found = {}
    for path in folder.glob("*.json"):
        seen = reader.read_label_file(str(path))  # which also opens the photograph and compares the sizes
        mask = np.zeros(truth[path.stem].shape, bool)
        for shape in seen.shapes:
            mask |= shapes.shape_to_mask(mask.shape, shape["points"], shape["shape_type"])
        found[path.stem] = mask
    return found


def by_label_studio(file: Path) -> dict[str, Bools]:
    brush = _module_of("label_studio_converter", "brush")
    found = {}
    for task in json.loads(file.read_bytes()):
        for result in task["predictions"][0]["result"]:
            values = brush.decode_rle(result["value"]["rle"])
            picture = values.reshape(result["original_height"], result["original_width"], 4)
            found[Path(task["data"]["image"]).stem] = picture[..., 3] > 0
    return found


def _module_of(package: str, name: str) -> Any:
    """A module without its package, whose other modules need more."""
    where = importlib.util.find_spec(package)
    assert where is not None
    assert where.submodule_search_locations is not None
    path = Path(where.submodule_search_locations[0]) / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = ModuleType(name)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
