"""What cleaning brings: IoU, edge, parts and holes of masks at the pictures' own size, with and without it.

    python tools/measure_cleaning.py SPLIT MODEL SET [MODEL SET ...] [--shares 0.01,0.01 0.1,0.01]

SETs are prepared ones with masks, or folders of pictures with masks (SPLIT is then not used). Printed are means over
the pictures; haze is as in `redoseg.evaluation.evaluate`.
"""

import argparse

from redoseg.data import is_prepared
from redoseg.evaluation.evaluate import evaluate_own_size
from redoseg.images.clean import LARGEST_HOLE, SMALLEST_PART, Cleaning


def main(split: str, pairs: list[str], shares: list[str]) -> None:
    for model, data in zip(pairs[::2], pairs[1::2], strict=True):
        for cleaning in [None, *(Cleaning(*map(float, text.split(","))) for text in shares)]:
            found = evaluate_own_size(model, data, split if is_prepared(data) else None, cleaning=cleaning)
            words = "not cleaned" if cleaning is None else f"{cleaning.smallest_part:g},{cleaning.largest_hole:g}"
            for way in (found["guided"], found["grabcut"]):
                name = "guided" if way is found["guided"] else "grabcut"
                print(
                    f"{model} {data} {found['pictures']} pictures  {name:7}  {words:11}  IoU {100 * way['iou']:.2f}  "
                    f"edge F {100 * way['boundary_f']:.2f}  parts beyond one {way['parts_beyond_one']:.2f}  "
                    f"holes {way['holes']:.2f}  haze {way['haze']:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", metavar="SPLIT")
    parser.add_argument("pairs", metavar="MODEL SET", nargs="+")
    parser.add_argument("--shares", nargs="+", default=[f"{SMALLEST_PART},{LARGEST_HOLE}"])
    given = parser.parse_args()
    main(given.split, given.pairs, given.shares)
