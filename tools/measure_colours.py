"""What the colours of a profile cost: IoU of pictures in Display P3 and ProPhoto RGB, with and without the profile.

    python tools/measure_colours.py MODEL PREPARED SPLIT [PICTURES]

Each picture of the prepared set is taken for sRGB and converted to the other space. "managed" gives the model that
picture with its profile, as `segment` reads it; "unmanaged" without it, as a reader does that ignores profiles. Edges
are guided, masks are not cleaned. Printed are means over the pictures, and the largest loss of one.
"""

import argparse
import io

import numpy as np
from PIL import Image, ImageCms

from redoseg.data import open_prepared
from redoseg.images.colour import matrix_profile
from redoseg.inference.segmenter import Segmenter
from redoseg.metrics import score

# white, red, green and blue (x, y each), and the curve's exponent
SPACES = {
    "Display P3": ((0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060), 2.2),
    "ProPhoto RGB": ((0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8),
}


def main(model: str, data: str, split: str, most: int) -> None:
    images = open_prepared(data).subset(split)
    labelled = np.flatnonzero(images.labelled)
    chosen = labelled[np.unique(np.linspace(0, len(labelled) - 1, min(most, len(labelled))).astype(int))]
    ours = Segmenter(model)
    srgb = ImageCms.createProfile("sRGB")

    def iou(image: Image.Image, number: int) -> float:
        mask = ours(image, cleaning=None)
        return 100 * float(score(mask[None], images.labels([number])).iou)

    plain = np.array([iou(Image.fromarray(np.asarray(images.pixels[i])), i) for i in chosen])
    print(f"{model} on {len(chosen)} pictures of {data}, {split}: IoU {plain.mean():.1f} in sRGB")
    for name, (where, gamma) in SPACES.items():
        profile = matrix_profile(where, gamma)
        change = ImageCms.buildTransform(srgb, ImageCms.ImageCmsProfile(io.BytesIO(profile)), "RGB", "RGB")
        found = []
        for i in chosen:
            other = ImageCms.applyTransform(Image.fromarray(np.asarray(images.pixels[i])), change)
            assert other is not None
            other.info.pop("icc_profile", None)
            before = iou(other, i)
            other.info["icc_profile"] = profile
            found.append((before, iou(other, i)))
        before, after = np.array(found).T
        print(
            f"{name:12} unmanaged {before.mean():.1f}  managed {after.mean():.1f}  largest loss of a picture unmanaged "
            f"{(plain - before).max():.1f}, managed {(plain - after).max():.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "data", "split"):
        parser.add_argument(name, metavar={"data": "PREPARED"}.get(name, name.upper()))
    parser.add_argument("pictures", metavar="PICTURES", nargs="?", type=int, default=60)
    given = parser.parse_args()
    main(given.model, given.data, given.split, given.pictures)
