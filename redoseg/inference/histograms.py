"""A page of the review with the distributions of what was measured. Needs matplotlib, the part `measure` of redoseg."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from redoseg.errors import MissingError
from redoseg.images.labels.entry import Entry

# what is drawn: the column of the table, its title, and the unit
_SHOWN = (
    ("share", "share of the picture", "%"),
    ("area_px", "area", "pixels"),
    ("longest_axis_px", "longest axis", "pixels"),
    ("shortest_axis_px", "shortest axis", "pixels"),
    ("perimeter_px", "perimeter", "pixels"),
    ("confidence", "confidence", ""),
)
_MILLIMETRES = {  # drawn in place of the same in pixels, where all objects have it
    "area_px": ("area_mm2", "mm²"),
    "longest_axis_px": ("longest_axis_mm", "mm"),
    "shortest_axis_px": ("shortest_axis_mm", "mm"),
    "perimeter_px": ("perimeter_mm", "mm"),
}


def check_drawable() -> None:
    """Raises MissingError where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingError.of("histograms of measures need matplotlib, which", "measure") from None


def histogram_page(entries: Sequence[Entry]) -> bytes:
    """A PNG with a histogram for each measure of the objects in `entries`, which are those of `measures.csv`."""
    from matplotlib.figure import Figure  # without pyplot: no window system, nothing global

    rows = [row for one in entries for row in one.data if int(row["object"])]
    empty = sum(1 for one in entries for row in one.data if not int(row["object"]))
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    without = f"; {empty:,} without an object" if empty else ""
    figure.suptitle(
        f"{len(rows):,} {'object' if len(rows) == 1 else 'objects'} in {len(entries):,} photographs{without}"
    )
    for axis, (column, title, unit) in zip(figure.subplots(2, 3).flat, _SHOWN, strict=True):
        if column in _MILLIMETRES and rows and all(row[_MILLIMETRES[column][0]] for row in rows):
            column, unit = _MILLIMETRES[column]
        values = np.array([float(row[column]) for row in rows]) * (100 if unit == "%" else 1)
        if len(values):
            # one object far from the others would make thousands of bins
            bins = min(60, len(np.histogram_bin_edges(values, "auto")) - 1)
            axis.hist(values, bins=bins, color="#4c78a8", edgecolor="white", linewidth=0.5)
            middle = float(np.median(values))
            label = f"median {middle:,.0f}" if middle >= 1000 else f"median {middle:.3g}"
            axis.axvline(middle, color="#e45756", linewidth=1.2, label=label)
            axis.legend(fontsize=8, frameon=False)
        axis.set(xlabel=f"{title} [{unit}]" if unit else title, ylabel="objects")
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
