"""Write labels of a folder of photographs, and read them back with the labelling tools' own readers.

It needs pycocotools, labelme, label-studio-converter and ultralytics, in an environment of their own. labelme's window,
torchvision and other parts of them, which need much more and read nothing, are not loaded.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redoseg.config.kinds import Kind
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter
from redoseg.inference.sources import find_images

Bools = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="as for `redoseg segment`")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    arguments = parser.parse_args()
    segmenter = Segmenter(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder).resolve()
        images = {path.stem: path for path in map(Path, find_images([arguments.photos], out).images)}
        truth = {stem: segmenter(path) for stem, path in images.items()}
        for name in arguments.readers:
            kind, read = READERS[name]
            segment_paths(segmenter, arguments.photos, out / kind, kind=kind, polygons=kind == "coco")
            found = read(out / kind, images)
            ious = [iou(found[stem], mask) for stem, mask in truth.items() if mask.any()]
            version = importlib.metadata.version(name)
            print(
                f"{name} {version}: {len(ious)} masks of {len(truth)} photographs, IoU of what it reads with the mask: "
                f"mean {np.mean(ious):.4f}, least {np.min(ious):.4f}"
            )


def iou(a: Bools, b: Bools) -> float:
    return float((a & b).sum() / (a | b).sum())


def by_pycocotools(folder: Path, images: dict[str, Path]) -> dict[str, Bools]:
    from pycocotools.coco import COCO

    coco = COCO(folder / "coco.json")
    found = {}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        (image,) = coco.loadImgs(annotation["image_id"])
        found[Path(image["file_name"]).stem] = coco.annToMask(annotation) > 0
    return found


def by_labelme(folder: Path, images: dict[str, Path]) -> dict[str, Bools]:
    for window in ("labelme.utils.qt", "PyQt5"):  # which reads nothing
        sys.modules[window] = MagicMock()
    reader: Any = importlib.import_module("labelme._label_file")
    shapes: Any = importlib.import_module("labelme.utils.shape")
    found = {}
    for path in folder.glob("*.json"):
        seen = reader.read_label_file(str(path))  # which also opens the photograph and compares the sizes
        with Image.open(images[path.stem]) as photo:
            mask = np.zeros((photo.height, photo.width), bool)
        for shape in seen.shapes:
            mask |= shapes.shape_to_mask(mask.shape, shape["points"], shape["shape_type"])
        found[path.stem] = mask
    return found


def by_label_studio(folder: Path, images: dict[str, Path]) -> dict[str, Bools]:
    brush = _module_of("label_studio_converter", "brush")
    found = {}
    for task in json.loads((folder / "labelstudio.json").read_bytes()):
        for result in task["predictions"][0]["result"]:
            values = brush.decode_rle(result["value"]["rle"])
            picture = values.reshape(result["original_height"], result["original_width"], 4)
            found[Path(task["data"]["image"]).stem] = picture[..., 3] > 0
    return found


def by_ultralytics(folder: Path, images: dict[str, Path]) -> dict[str, Bools]:
    torchvision = MagicMock(__version__="0.28.0")
    torchvision.__spec__ = importlib.machinery.ModuleSpec("torchvision", None)
    for module in ("torchvision", "torchvision.ops", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[module] = torchvision
    versions = importlib.metadata.version

    def version(name: str) -> str:
        return "0.28.0" if name == "torchvision" else versions(name)

    with patch("importlib.metadata.version", version):
        data: Any = importlib.import_module("ultralytics.data.dataset")
        utils: Any = importlib.import_module("ultralytics.data.utils")
    (folder / "images").mkdir()
    for path in images.values():
        (folder / "images" / path.name).symlink_to(path.resolve())
    settings = {"names": {0: "object"}, "nc": 1, "channels": 3}
    dataset = data.YOLODataset(img_path=str(folder / "images"), data=settings, task="segment", augment=False)
    found = {}
    for label in dataset.labels:
        height, width = label["shape"]
        corners = [(one * (width, height)).reshape(-1) for one in label["segments"]]
        masks = utils.polygons2masks((height, width), corners, color=1)
        found[Path(label["im_file"]).stem] = masks.any(0)
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


Reader = Callable[[Path, dict[str, Path]], dict[str, Bools]]
READERS: dict[str, tuple[Kind, Reader]] = {
    "pycocotools": ("coco", by_pycocotools),
    "labelme": ("labelme", by_labelme),
    "label-studio-converter": ("labelstudio", by_label_studio),
    "ultralytics": ("yolo", by_ultralytics),
}

if __name__ == "__main__":
    main()
