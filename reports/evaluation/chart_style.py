"""How every chart looks: its heading with numbers and units, its colours, and its file.

Figures are made without pyplot, so that no state is shared and no window is looked for. A series (a model) has the same
colour, dash and marker in all charts of a set, by its place in it. The colours are Seaborn's "colorblind" ones, whose
neighbours differ in lightness too.
"""

from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from textwrap import wrap
from typing import Any

import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patheffects import Stroke, withStroke

from dicom_io.files.whole_files import open_whole

DOTS_PER_INCH = 130

_ORDER = (0, 1, 2, 4, 9, 3, 5, 7)
PALETTE: tuple[str, ...] = tuple(sns.color_palette("colorblind").as_hex()[place] for place in _ORDER)
"""Blue, orange, green, pink, light blue, vermilion, brown, grey."""

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (9, 2)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")

INK, SOFT, FAINT = "#1c2530", "#5a6672", "#d7dce1"

TITLE_SIZE, NOTE_SIZE, TEXT_SIZE, SMALL_SIZE = 13.0, 9.5, 9.5, 8.0

LETTERS_PER_INCH = 13.2
"""How many letters of a note fit, whichever they are."""

_TITLE_INCHES, _LINE_INCHES = 0.42, 0.19
_STYLE = {
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": TEXT_SIZE,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": ["DejaVu Sans"],
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9.0,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9.0,
}


@dataclass(frozen=True)
class Look:
    """The look of one series of a chart: colour, dash and marker, so that colour is never all that differs."""

    colour: str
    dash: Any
    marker: str


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure under its heading, and its axes row by row."""

    figure: Figure
    axes: tuple[Any, ...]

    def save(self, path: Path) -> Path:
        """Write the chart as PNG, in full or not at all; returns `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_whole(path, durable=False) as file:
            self.figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        return path


def looks(labels: list[str]) -> dict[str, Look]:
    """The look of each label, by its place."""
    found = zip(labels, cycle(PALETTE), cycle(DASHES), cycle(MARKERS))  # noqa: B905 - three of them never end
    return {label: Look(colour, dash, marker) for label, colour, dash, marker in found}


def new_chart(
    title: str, note: str, *, size: tuple[float, float], rows: int = 1, columns: int = 1, panels: int | None = None
) -> Chart:
    """An empty chart of `size` (width, height) inches with `panels` axes, else rows x columns.

    `title` says what is seen; `note` how many it stands for and in which units, in as many lines as that takes.
    """
    width, height = size
    note = "\n".join(part for line in note.splitlines() for part in wrap(line, int(width * LETTERS_PER_INCH)))
    with sns.axes_style("whitegrid", rc=_STYLE):
        figure = Figure(figsize=size, facecolor="white")
        grid = figure.subplots(rows, columns, squeeze=False)
    axes = grid.ravel().tolist()
    for each in axes:
        each.tick_params(labelcolor=INK, color=SOFT)
    kept = len(axes) if panels is None else panels
    for spare in axes[kept:]:
        spare.remove()
    heading = _TITLE_INCHES + _LINE_INCHES * len(note.splitlines())
    figure.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, 1 - heading / height), w_pad=0.08, h_pad=0.06)
    left = 0.14 / width
    figure.text(left, 1 - 0.12 / height, title, size=TITLE_SIZE, weight="bold", va="top", color=INK)
    figure.text(left, 1 - 0.38 / height, note, size=NOTE_SIZE, va="top", color=SOFT, linespacing=1.25)
    return Chart(figure, tuple(axes[:kept]))


def grid_size(panels: int, *, widest: int = 3) -> tuple[int, int]:
    """Return rows and columns of a grid of panels, at most `widest` beside one another."""
    columns = min(panels, widest) if panels != 4 else 2
    return -(-panels // columns), columns


def legend_below(chart: Chart, handles: list[Any], labels: list[str], *, widest: int = 5) -> None:
    """Draw one legend for all panels, below them."""
    columns = min(len(labels), widest)
    chart.figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, handlelength=2.4, fontsize=TEXT_SIZE, frameon=False
    )


def name_panel(axes: Any, text: str, *, place: str = "left") -> None:
    """The heading of one panel."""
    axes.set_title(text, loc=place, fontsize=10.5, fontweight="bold", color=INK)


def halo() -> list[Stroke]:
    """White around text, so that a line of the chart may run behind it."""
    return [withStroke(linewidth=2.5, foreground="white")]


def signed(value: float, digits: int = 0) -> str:
    """Format a number with its sign, and a minus as long as a plus."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def hatches(count: int) -> list[str]:
    """A hatch for each bar of a group, the first without one."""
    return list(islice(cycle(("", "///", "...", "\\\\\\", "xxx")), count))
