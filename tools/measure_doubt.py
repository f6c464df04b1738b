"""How often a model says that its masks look doubtful, on its own kind of pictures and on others.

    python tools/measure_doubt.py MODEL FOLDER [FOLDER ...] [--pictures 60] [--few 12]

A mask counts as doubtful below `redoseg.inference.doubt.DOUBTFUL`. Of each folder 60 pictures are taken, evenly
spaced. "said" is in how many of a thousand draws of 12 of them `segment` would say that many masks look doubtful.
"""

import argparse

import numpy as np

from redoseg.images.read import list_images, read_photo
from redoseg.inference.doubt import is_doubtful, many_doubtful
from redoseg.inference.segmenter import Segmenter


def main(model: str, folders: list[str], most: int, few: int) -> None:
    ours = Segmenter(model)
    chance = np.random.default_rng(0)
    for folder in folders:
        paths = list_images(folder).images
        chosen = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int))
        sure = np.array([ours.soft_mask(read_photo(paths[i], ours.size))[1] for i in chosen])
        doubtful = np.array([is_doubtful(float(one)) for one in sure])
        draws = [int(chance.choice(doubtful, min(few, len(doubtful)), replace=False).sum()) for _ in range(1000)]
        said = np.mean([many_doubtful(count, min(few, len(doubtful))) for count in draws])
        print(
            f"{model} on {len(chosen)} of {folder}: confidence {sure.mean():.2f} ({sure.min():.2f} to {sure.max():.2f})"
            f"  doubtful {doubtful.mean():.0%}  said of {few}: {said:.0%}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("folders", metavar="FOLDER", nargs="+")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--few", type=int, default=12)
    given = parser.parse_args()
    main(given.model, given.folders, given.pictures, given.few)
