"""Write pictures and masks of a prepared set as folders of corrected masks, for `redoseg study corrected`.

    python tools/write_corrections.py SET OUT [--split dev] [--counts 5 10 20] [--seed 0]

Makes OUT-5/, OUT-10/ and OUT-20/, each with images/ and masks/. Pictures are drawn at random; each folder has those of
the smaller one and more.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from redoseg.data import labelled_images


def main(source: str, out: str, *, split: str, counts: list[int], seed: int) -> None:
    images = labelled_images(source, split=split)
    assert images.masks is not None
    order = np.random.default_rng(seed).permutation(len(images))
    for count in counts:
        for kind, arrays in (("images", images.pixels), ("masks", images.masks)):
            folder = Path(f"{out}-{count}", kind)
            folder.mkdir(parents=True)
            for i in order[:count]:
                path = folder / f"{images.names[i]}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(arrays[i]).save(path)
        print(f"{out}-{count}: {min(count, len(images))} of {len(images)} pictures of {source}, {split}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SET")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.source, given.out, split=given.split, counts=given.counts, seed=given.seed)
