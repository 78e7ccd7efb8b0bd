"""Picture: a matplotlib figure as SVG and PNG, the same bytes each time, and as part of a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clover_rl.cli.reporting.palette import GRID, INK, MUTED, SURFACE
from clover_rl.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "Picture", "finish", "styled"]

WIDTH = 7.6
"""Of every figure, inches: text keeps one size on the page."""
PNG_DPI = 200
SALT = "clover-rl report"
"""Of matplotlib's ids, which are random without one."""
THEMED = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--surface)"}

STYLE: dict[str, Any] = {
    "svg.hashsalt": SALT,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with two dollars is no formula
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.facecolor": SURFACE,
    "axes.facecolor": "none",
    "savefig.facecolor": SURFACE,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of a report.

    Attributes:
        name: of its files, and what its ids begin with.
        title: a few words, for people.
        caption: what is drawn, and of which kind it is.
        svg: on paper of its own.
        figure: what it was drawn from, for other formats.
    """

    name: str
    title: str
    caption: str
    svg: str
    figure: Figure

    def png(self) -> bytes:
        """The same in dots."""
        content = io.BytesIO()
        with styled():
            self.figure.savefig(content, format="png", dpi=PNG_DPI, metadata={"Software": None})
        return content.getvalue()

    def inline(self) -> str:
        """The svg element for a page: the page's colours, ids of its own, no width of its own."""
        body = self.svg[self.svg.index("<svg") :]
        head, rest = body.split(">", 1)
        box = re.search(r'viewBox="([^"]*)"', head)
        rest = re.sub(r'\bid="', f'id="{self.name}-', rest)
        rest = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{self.name}-", rest)
        for colour, variable in THEMED.items():
            rest = rest.replace(colour, variable)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box[1] if box else "0 0 1 1"}" role="img" aria-labelledby="{self.name}-title">{rest}'
        )

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.svg and NAME.png.

        Raises:
            InputError: they cannot be written.
        """
        svg, png = folder / f"{self.name}.svg", folder / f"{self.name}.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            svg.write_text(self.svg, encoding="utf-8")
            png.write_bytes(self.png())
        except OSError as error:
            raise InputError(
                f"figures cannot be written ({error.strerror})",
                where=str(folder),
                fix="choose another folder",
            ) from None
        return [svg, png]


@contextmanager
def styled() -> Iterator[None]:
    """The look of every figure of a report, whatever the user's own settings are."""
    import matplotlib
    from matplotlib.backends import backend_agg, backend_svg  # noqa: F401 - loaded under the settings below

    with matplotlib.rc_context(matplotlib.rcParamsDefault), warnings.catch_warnings():
        settings: Any = matplotlib.rcParams
        settings.update(STYLE)
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a name in another script
        yield


def finish(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """A figure as SVG, without dates and versions.

    The layout is made once and rounded: its last digits differ from run to run, and matplotlib's ids, which
    are hashes of places, with them.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        x, y, width, height = (round(float(value), 5) for value in axes.get_position().bounds)
        axes.set_position((x, y, width, height))
    svg = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(svg, format="svg", metadata=nothing)
    return Picture(name, title, caption, svg.getvalue(), figure)


def new_figure(height: float) -> Figure:
    """A figure of the report's width; it belongs to no window system."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # a little more between columns than by default: the ends of two axes' labels do not touch
    return Figure(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(wspace=0.05))


def as_percent(axes: Axes, axis: str, digits: int = 0) -> None:
    """Shares of 1 along an axis are written as percentages."""
    from matplotlib.ticker import PercentFormatter

    target = axes.xaxis if axis == "x" else axes.yaxis
    target.set_major_formatter(PercentFormatter(1.0, decimals=digits, symbol=" %"))
