"""Draw the pictures of docs/how-it-works.md and docs/tutorial.md.

    python tools/make_pictures.py FLOWERS17 [RUN]

FLOWERS17 has images/ and masks/; RUN is a finished run of the recipe photos on flowers, for tutorial-samples.jpg and
tutorial-stages.jpg, which stay unchanged without it. Needs the training part.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import NDArray
from PIL import Image

from redoseg.config.kinds import DRAWN
from redoseg.images.photo import fit_square
from redoseg.images.read import read_image
from redoseg.inference.segment_files import segment_paths
from redoseg.inference.segmenter import Segmenter

OUT = Path(__file__).parents[1] / "docs" / "pictures"
INK, PLAYER, JUDGE, THING = "#222222", "#dbe9f6", "#fbdcc4", "#eeeeee"

Pixels = NDArray[np.uint8]


def labelled(
    rows: list[list[Pixels]], names: list[str], path: Path, inch: float = 1.1, heads: list[str] | None = None
) -> None:
    """Rows of pictures with a name to the left of each, and one over each column."""
    columns = max(map(len, rows))
    left = 1.45 if any(names) else 0.05
    figure = Figure((columns * inch + left + 0.05, len(rows) * inch + (0.3 if heads else 0)), dpi=100)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for y, (row, name) in enumerate(zip(rows, names, strict=True)):
        for x in range(columns):
            axes[y][x].set(xticks=[], yticks=[])
            axes[y][x].spines[:].set_color("#bbbbbb")
            if x < len(row):
                axes[y][x].imshow(row[x], interpolation="lanczos", vmin=0, vmax=255, cmap="gray")
            if heads and y == 0:
                axes[y][x].set_title(heads[x], fontsize=8)
        axes[y][0].text(-0.06, 0.5, name, transform=axes[y][0].transAxes, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(left / figure.get_figwidth(), 0.01, 0.995, 0.9 if heads else 0.99, 0.03, 0.04)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """As a small file: 256 colours, or JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        figure.savefig(f"{folder}/whole.png")
        with Image.open(f"{folder}/whole.png") as whole:
            if path.suffix == ".jpg":
                whole.convert("RGB").save(path, quality=85, optimize=True)
            else:
                whole.convert("RGB").quantize(128).save(path, optimize=True)


def game() -> None:
    """Who gets what from whom in one step."""
    figure = Figure((11, 3.9), dpi=90)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 11), ylim=(0, 3.9))
    axes.axis("off")

    def box(x: float, y: float, text: str, colour: str, width: float = 1.5, *, height: float = 0.7) -> None:
        axes.add_patch(
            FancyBboxPatch((x - width / 2, y - height / 2), width, height, "round,pad=0.02", fc=colour, ec=INK, lw=0.8)
        )
        axes.text(x, y, text, ha="center", va="center", fontsize=9, color=INK)

    def arrow(
        a: tuple[float, float], b: tuple[float, float], text: str = "", up: float = 0.12, bend: float = 0
    ) -> None:
        style = f"arc3,rad={bend}"
        axes.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=11, color=INK, connectionstyle=style))
        axes.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + up, text, ha="center", fontsize=8, color=INK)

    axes.add_patch(FancyBboxPatch((1.75, 1.15), 6.1, 2.6, "round,pad=0.03", fc="none", ec="#4a7fb5", lw=1, ls="--"))
    axes.text(1.85, 3.55, "the redrawer: learns to be believed", fontsize=8.5, color="#2f5f92")
    box(0.8, 2.1, "photograph", THING, 1.2)
    box(2.6, 2.1, "mask\nextractor", PLAYER, 1.4)
    box(4.85, 2.1, "region\ngenerator", PLAYER, 1.4)
    box(4.85, 3.15, "random latent", THING, 1.3, height=0.5)
    box(7.0, 2.1, "put the drawing\ninto the photograph", THING, 1.5)
    box(9.75, 2.1, "discriminator", JUDGE)
    box(9.75, 0.7, "other photographs,\nunchanged", THING, 1.6)
    axes.text(9.75, 2.6, "the judge: learns not to be fooled", ha="center", fontsize=8.5, color="#a8531a")
    arrow((1.42, 2.1), (1.88, 2.1))
    arrow((3.32, 2.1), (4.13, 2.1), "mask")
    arrow((4.85, 2.88), (4.85, 2.47))
    arrow((5.57, 2.1), (6.23, 2.1), "drawing")
    arrow((7.77, 2.1), (8.98, 2.1), "redrawn picture")
    arrow((9.75, 1.07), (9.75, 1.73), "")
    arrow((0.8, 1.73), (7.0, 1.73), "everything outside the mask is kept", -0.52, 0.12)
    save(figure, OUT / "how-game.png")


def recoloured(image: Pixels, mask: NDArray[np.bool_], turn: int) -> Pixels:
    """The picture with other colours inside the mask: a stand-in for a drawing, made by hand."""
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).copy()
    hsv[..., 0] = np.where(mask, (hsv[..., 0].astype(int) + turn) % 256, hsv[..., 0])
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def idea(flowers: Path, stem: str) -> None:
    """Why a wrong mask is found out."""
    image = np.asarray(fit_square(read_image(next((flowers / "images").glob(f"{stem}.*"))), 192))
    right = Segmenter("flowers")(image)
    rows, columns = np.mgrid[:192, :192]
    centre = np.argwhere(right).mean(0)
    radius = np.sqrt(right.sum() / np.pi)
    shifted = (rows - centre[0] - 0.7 * radius) ** 2 + (columns - centre[1] - 0.7 * radius) ** 2 < radius**2
    wide = (rows - 96) ** 2 + (columns - 96) ** 2 < 88**2
    masks = [right, shifted, wide, np.zeros_like(right)]
    drawn = [recoloured(image, mask, 120) for mask in masks]
    labelled(
        [[image] * 4, [(255 * mask).astype(np.uint8) for mask in masks], drawn],
        ["photograph", "mask", "redrawn inside\n(by hand, here)"],
        OUT / "how-idea.jpg",
        heads=["right", "beside the flower", "too wide", "empty"],
        inch=1.3,
    )


def tiles(path: Path) -> list[list[Pixels]]:
    """The pictures of a sample grid: squares of one size on white, a fixed gap apart."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    step = (sheet.shape[1] - 4) // 8
    return [
        [sheet[y + 4 : y + step, x + 4 : x + step] for x in range(0, 8 * step, step)]
        for y in range(0, sheet.shape[0] - 4, step)
    ]


def stages(run: Path) -> None:
    """A sample grid with names, and the masks of the stages."""
    grids = [tiles(path) for path in sorted((run / "samples").glob("[0-9]*.png"))]
    names = ["photographs", "object mask", "object redrawn", "ground redrawn", "truth"]
    labelled([row[:6] for row in grids[-1]], names, OUT / "tutorial-samples.jpg", 1.0)
    last = tiles(run / "samples" / "last.png")
    labelled(
        [last[0], *(rows[1] for rows in grids), last[1], last[-1]],
        ["photographs", *(f"after {int(p.stem[2:])} steps" for p in sorted((run / "samples").glob("[0-9]*.png"))),
         "both stages", "truth"],
        OUT / "tutorial-stages.jpg", 0.95,
    )  # fmt: skip


def failures() -> None:
    """Masks of runs that went well and wrong, from the picture of the study."""
    sheet = np.asarray(Image.open(OUT / "study-missing-masks.jpg").convert("RGB"))
    step = sheet.shape[0] / 33
    chosen = {0: "pictures", 32: "healthy", 3: "one region eats\nthe picture", 27: "masks stay grey",
              21: "healthy, but beside\nthe object"}  # fmt: skip
    rows = []
    for number in chosen:
        top = round(number * step) + 4
        rows.append([sheet[top : top + 72, x : x + 72] for x in range(291, 860, 76)])
    labelled(rows, list(chosen.values()), OUT / "tutorial-failures.jpg", 0.85)


def kinds(flowers: Path, stems: list[str]) -> None:
    """What `redoseg segment --as` writes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for stem in stems:
            photo = next((flowers / "images").glob(f"{stem}.*"))
            row = [np.asarray(fit_square(read_image(photo), 256))]
            for kind in DRAWN:
                segment_paths(Segmenter("flowers"), photo, Path(folder) / kind, kind=kind)
                with Image.open(next((Path(folder) / kind).glob(f"{stem}*.png"))) as opened:
                    image = opened.convert("RGBA")
                    paper = Image.new("RGBA", image.size, "white")
                    row.append(np.asarray(fit_square(Image.alpha_composite(paper, image).convert("RGB"), 256)))
            rows.append(row)
    heads = ["photograph", *(f"--as {kind}" for kind in DRAWN)]
    labelled(rows, [""] * len(rows), OUT / "tutorial-kinds.jpg", 1.4, heads)


def main(flowers: Path, run: Path | None) -> None:
    """Draw them all."""
    with rc_context({"font.family": "DejaVu Sans"}):
        game()
        idea(flowers, "image_1130")
        failures()
        kinds(flowers, ["image_0437", "image_1321"])
        if run is not None:
            stages(run)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowers", metavar="FLOWERS17", type=Path)
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?")
    arguments = parser.parse_args()
    main(arguments.flowers, arguments.run)
