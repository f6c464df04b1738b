"""How many masks a limit of confidence marks rightly and wrongly, and how many bad ones it passes over.

    python tools/choose_doubt.py MODEL=SET [MODEL=SET ...] [--split dev]

A mask is bad if its IoU with the label is below 0.5. It is what `segment` writes for the image of a prepared set.
Each row is a limit: how many masks have less confidence, how many of these are bad ("rightly") and how many are not
("wrongly"), and how many bad ones have more ("missed").
"""

import argparse

import numpy as np
from PIL import Image

from redoseg import metrics
from redoseg.data import labelled_images
from redoseg.images.photo import to_photo
from redoseg.inference.doubt import DOUBTFUL
from redoseg.inference.object_mask import CLEANING, HALF, cleaned, object_of
from redoseg.inference.segmenter import Segmenter

BAD = 0.5  # IoU
LIMITS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


def measured(model: str, data: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and IoU (N,) of each labelled image."""
    segmenter, images = Segmenter(model, threads=1), labelled_images(data, split=split)
    masks, sure = [], []
    for pixels in images.pixels:
        photo = to_photo(Image.fromarray(np.asarray(pixels)))
        soft, confidence = segmenter.soft_mask(photo)
        masks.append(object_of(photo, cleaned(photo, soft, HALF, CLEANING), HALF))
        sure.append(confidence)
    return np.array(sure), metrics.score(np.stack(masks), images.labels()).ious


def main(pairs: list[str], split: str) -> None:
    found = []
    for pair in pairs:
        model, _, data = pair.partition("=")
        found.append((f"{model} on {data}", *measured(model, data, split)))
    found.append(("all", np.concatenate([sure for _, sure, _ in found]), np.concatenate([ious for *_, ious in found])))
    for name, sure, ious in found:
        bad = ious < BAD
        print(f"{name}, {split}: {len(sure)} pictures, {bad.sum()} with an IoU below {BAD:g}, mean {ious.mean():.3f}")
        for limit in LIMITS:
            low = sure < limit
            print(
                f"  confidence below {limit:.2f}: {low.sum():3} masks, rightly {(low & bad).sum():3}, wrongly "
                f"{(low & ~bad).sum():3}; missed {(bad & ~low).sum():3}{'  <- the limit' if limit == DOUBTFUL else ''}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", metavar="MODEL=SET", nargs="+")
    parser.add_argument("--split", default="dev")
    given = parser.parse_args()
    main(given.pairs, given.split)
