"""A frame as a picture: one matplotlib figure, of which only what moves is drawn again."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from clover_rl.cluster.gpu import MEMORY_SLICES
from clover_rl.envs.render import WINDOW_H, Frame, Trail
from clover_rl.envs.render_colours import LOST, PARKED, Rgb, ink_on, variant_colours
from clover_rl.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from matplotlib.text import Text
    from numpy.typing import NDArray

__all__ = ["FramePainter"]

SIZE = (960, 608)
"""Width and height in pixels: multiples of 16, as video codecs like them."""
DPI = 100
INK, FAINT = "#222222", "#777777"
BROWN, BLUE, GREEN, RED = "#a0522d", "#0072B2", "#00795b", "#c0392b"
P95_TOP = 1.5
LABELLED = 8
"""Up to so many GPUs, slices carry their names."""


class FramePainter:
    """Paints frames of one environment.

    The axes are drawn once and kept as a picture; a frame restores it and draws lines, slices and figures
    over it. Limits only grow within an environment, so that a film does not jump.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """

    def __init__(self) -> None:
        if find_spec("matplotlib") is None:
            raise MissingExtraError("matplotlib not installed", fix="pip install 'clover-rl[render]'")
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(SIZE[0] / DPI, SIZE[1] / DPI), dpi=DPI, facecolor="white")
        self._canvas: Any = FigureCanvasAgg(self._figure)  # matplotlib leaves its methods untyped
        self._background: Any = None
        self._shape: tuple[object, ...] = ()
        self._moving: list[Any] = []

    def paint(self, frame: Frame) -> NDArray[np.uint8]:
        """One frame as RGB, shape (608, 960, 3)."""
        shape = (len(frame.gpus), frame.variants, frame.capacity, frame.accuracy_base, frame.scenario)
        if shape != self._shape:
            self._build(frame)
            self._shape = shape
        self._fit(frame)
        if self._background is None:
            self._canvas.draw()
            self._background = self._canvas.copy_from_bbox(self._figure.bbox)
        self._canvas.restore_region(self._background)
        self._set_lines(frame)
        self._set_gpus(frame)
        self._set_figures(frame)
        renderer = self._canvas.get_renderer()
        for artist in self._moving:
            artist.draw(renderer)
        return np.asarray(self._canvas.buffer_rgba())[:, :, :3].copy()

    def _build(self, frame: Frame) -> None:
        self._figure.clear()
        self._moving = []
        self._background = None
        self._intensity = self._axes(
            (0.075, 0.69, 0.905, 0.2), "carbon intensity, gCO2/kWh", (-WINDOW_H, WINDOW_H)
        )
        strip = (-WINDOW_H, 0.0)
        self._load = self._axes(
            (0.075, 0.46, 0.42, 0.145), "load, requests/s; dashed: BASE's capacity", strip
        )
        self._p95 = self._axes((0.075, 0.26, 0.42, 0.125), "p95 latency / SLA", strip)
        self._accuracy = self._axes((0.075, 0.06, 0.42, 0.125), "accuracy; dashed: BASE", strip)
        self._cards = self._figure.add_axes((0.545, 0.245, 0.435, 0.36))
        self._intensity.axvline(0.0, color=FAINT, linewidth=0.8)
        self._intensity.text(
            0.505, 0.95, "forecast", transform=self._intensity.transAxes, color=FAINT, fontsize=8, va="top"
        )
        self._load.axhline(frame.capacity, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        self._p95.axhline(1.0, color=RED, linewidth=0.9)
        self._accuracy.axhline(frame.accuracy_base, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        self._p95.set_ylim(0.0, P95_TOP)
        span = max(frame.accuracy_base - frame.accuracy_low, 1e-3)
        self._accuracy.set_ylim(frame.accuracy_low - 0.12 * span, frame.accuracy_base + 0.15 * span)
        self._intensity.set_ylim(0.0, 150.0)
        self._load.set_ylim(0.0, 1.15 * frame.capacity)
        self._past = self._line(self._intensity, BROWN, 1.8)
        self._ahead = self._line(
            self._intensity, BROWN, 1.2, linestyle=(0, (4, 2)), marker="o", markersize=3.5
        )
        self._now = self._line(self._intensity, BROWN, 0.0, marker="o", markersize=7)
        self._rate = self._line(self._load, BLUE, 1.5)
        self._ratio = self._line(self._p95, INK, 1.2)
        self._broken = self._line(self._p95, RED, 0.0, marker="o", markersize=3.5)
        self._share = self._line(self._accuracy, GREEN, 1.5)
        self._build_cards(frame)
        self._head = self._moving_text(0.075, 0.955, 13, weight="bold")
        self._mode = self._moving_text(0.98, 0.955, 10, ha="right", color=FAINT)
        self._numbers = [
            (self._moving_text(0.545 + 0.145 * k, 0.105, 18, weight="bold"), self._caption(k, text))
            for k, text in enumerate(
                ("carbon saved\nagainst BASE", "accuracy lost\nagainst BASE", "SLA held")
            )
        ]

    def _caption(self, place: int, text: str) -> Text:
        return self._figure.text(
            0.545 + 0.145 * place, 0.09, text, fontsize=8.5, color=FAINT, va="top", linespacing=1.2
        )

    def _axes(self, box: tuple[float, float, float, float], title: str, xlim: tuple[float, float]) -> Axes:
        axes = self._figure.add_axes(box)
        axes.set_title(title, loc="left", fontsize=9, color=INK, pad=3)
        axes.set_xlim(*xlim)
        ticks = np.arange(xlim[0], xlim[1] + 1.0, 6.0)
        axes.set_xticks(ticks, ["now" if tick == 0.0 else f"{tick:+.0f} h" for tick in ticks])
        axes.tick_params(labelsize=7.5, colors=FAINT, length=2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#bbbbbb")
        axes.grid(color="black", alpha=0.08, linewidth=0.6)
        axes.locator_params(axis="y", nbins=4)
        return axes

    def _line(self, axes: Axes, colour: str, width: float, **style: Any) -> Line2D:
        style = {"linestyle": "-" if width else "none"} | style
        (line,) = axes.plot([], [], color=colour, linewidth=width, animated=True, **style)
        self._moving.append(line)
        return line

    def _moving_text(self, x: float, y: float, size: float, **style: Any) -> Text:
        text = self._figure.text(x, y, "", fontsize=size, animated=True, **({"color": INK} | style))
        self._moving.append(text)
        return text

    def _build_cards(self, frame: Frame) -> None:
        from matplotlib.collections import PolyCollection
        from matplotlib.patches import Patch

        axes = self._cards
        count = len(frame.gpus)
        self._columns = 1 if count <= LABELLED else int(np.ceil(np.sqrt(count / 2.0)))
        self._rows = -(-count // self._columns)
        axes.set(xlim=(0.0, self._columns * (MEMORY_SLICES + 0.4) - 0.4), ylim=(self._rows, -0.02))
        axes.set_title("GPUs by memory slice, 0 to 7", loc="left", fontsize=9, color=INK, pad=3)
        axes.set_xticks([])
        axes.tick_params(labelsize=8, colors=FAINT, length=0)
        axes.set_yticks(
            [row + 0.45 for row in range(self._rows)],
            [f"GPU {row * self._columns}" for row in range(self._rows)],
        )
        axes.spines[:].set_visible(False)
        self._colours = dict(zip(frame.variants, variant_colours(len(frame.variants)), strict=True))
        handles = [Patch(color=_unit(colour), label=name) for name, colour in self._colours.items()]
        self._figure.legend(
            handles=[*handles, Patch(color=_unit(PARKED), label="parked")],
            loc="upper left",
            bbox_to_anchor=(0.537, 0.24),
            ncols=min(len(handles) + 1, 6),
            fontsize=8.5,
            frameon=False,
            handlelength=1.0,
            columnspacing=1.1,
            labelcolor=INK,
        )
        self._slices = PolyCollection([], linewidths=1.2, edgecolors="white", animated=True)
        axes.add_collection(self._slices, autolim=False)
        self._moving.append(self._slices)
        self._names: list[Text] = []
        if self._columns == 1:
            size = 8.5 if count <= 4 else 7.0
            self._names = [
                axes.text(0.0, 0.0, "", fontsize=size, ha="center", va="center", animated=True)
                for _ in range(7 * count)
            ]
            self._moving += self._names

    def _fit(self, frame: Frame) -> None:
        """Let limits grow where a line would leave its axes."""
        for axes, trails, step in (
            (self._intensity, (frame.intensity, frame.forecast), 150.0),
            (self._load, (frame.load,), 0.5 * frame.capacity),
        ):
            highest = max((float(trail.values.max()) for trail in trails if len(trail.values)), default=0.0)
            if highest > axes.get_ylim()[1]:
                axes.set_ylim(0.0, step * np.ceil(1.05 * highest / step))
                self._background = None

    def _set_lines(self, frame: Frame) -> None:
        for line, trail in (
            (self._past, frame.intensity),
            (self._ahead, frame.forecast),
            (self._rate, frame.load),
            (self._share, frame.accuracy),
        ):
            line.set_data(*trail)
        self._now.set_data([0.0], frame.intensity.values[-1:])
        hours, ratio = frame.p95_over_sla
        shown = np.minimum(ratio, P95_TOP - 0.03)
        self._ratio.set_data(hours, shown)
        broken = ratio > 1.0
        self._broken.set_data(*Trail(hours[broken], shown[broken]))

    def _set_gpus(self, frame: Frame) -> None:
        boxes: list[list[tuple[float, float]]] = []
        faces: list[tuple[float, float, float]] = []
        labels: list[tuple[float, float, str, Rgb]] = []

        def box(gpu: int, start: int, size: int, colour: Rgb, label: str) -> None:
            row, column = divmod(gpu, self._columns)
            left = column * (MEMORY_SLICES + 0.4) + start
            top, bottom = float(row), row + 0.88
            boxes.append([(left, top), (left + size, top), (left + size, bottom), (left, bottom)])
            faces.append(_unit(colour))
            labels.append((left + size / 2.0, row + 0.44, label, colour))

        for number, gpu in enumerate(frame.gpus):
            if number >= len(frame.gpus) - frame.lost:
                box(number, 0, MEMORY_SLICES, LOST, "unavailable")
                continue
            if gpu.parked:
                box(number, 0, MEMORY_SLICES, PARKED, "parked")
            for item in gpu.placed:
                place = item.placement
                box(number, place.start, place.size, self._colours[item.variant], _label(item))
        self._slices.set_verts(boxes)
        self._slices.set_facecolor(faces)
        for text in self._names[len(labels) :]:
            text.set_visible(False)
        for text, (x, y, label, colour) in zip(self._names, labels, strict=False):
            text.set(x=x, y=y, text=label, color=_unit(ink_on(colour)), visible=True)

    def _set_figures(self, frame: Frame) -> None:
        hour, minute = divmod(round(frame.hour * 60.0) % 1440, 60)
        self._head.set_text(f"{frame.scenario}   {hour:02d}:{minute:02d}")
        self._mode.set_text(f"step {frame.step}     w {frame.w:.3f}     SLA {frame.sla_ms:.1f} ms")
        found = frame.summary
        keys = ("episode_carbon_saving", "episode_accuracy_loss", "episode_sla_held_share")
        for (text, _), key, digits in zip(self._numbers, keys, (1, 2, 1), strict=True):
            text.set_text(f"{100.0 * found[key]:.{digits}f} %" if found else "-")


def _label(item: Any) -> str:
    name, variant = item.placement.slice, item.variant
    return f"{name}\n{variant}" if item.placement.size <= 2 else f"{name}  {variant}"


def _unit(colour: Sequence[int]) -> tuple[float, float, float]:
    return colour[0] / 255.0, colour[1] / 255.0, colour[2] / 255.0
