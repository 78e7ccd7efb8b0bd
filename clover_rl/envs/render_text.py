"""A frame as text for terminals."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console
from rich.style import Style
from rich.text import Text

from clover_rl.cluster.configuration import GpuConfiguration
from clover_rl.cluster.gpu import MEMORY_SLICES
from clover_rl.envs.render import Frame, Trail
from clover_rl.envs.render_colours import LOST, PARKED, Rgb, ink_on, variant_colours

__all__ = ["frame_text", "sparkline"]

CELL = 6
"""Characters of one memory slice."""
COLUMNS = 48
"""Width of a line of bars."""
BARS = "▁▂▃▄▅▆▇█"


def frame_text(frame: Frame, *, colour: bool = True) -> str:
    """A frame as lines of at most 80 characters; `colour` adds terminal sequences."""
    colours = dict(zip(frame.variants, variant_colours(len(frame.variants)), strict=True))
    out = io.StringIO()
    console = Console(
        file=out,
        width=100,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        highlight=False,
        legacy_windows=False,
    )
    hour, minute = divmod(round(frame.hour * 60.0) % 1440, 60)
    console.print(
        Text(f"{frame.scenario}  step {frame.step}  {hour:02d}:{minute:02d}  ", style="bold")
        + Text(f"w {frame.w:.3f}  SLA {frame.sla_ms:.1f} ms", style="not bold")
    )
    ahead = frame.forecast.values
    console.print(
        f"intensity  {sparkline(frame.intensity, COLUMNS)} {frame.intensity.values[-1]:4.0f} gCO2/kWh, then "
        + ", ".join(
            f"{value:.0f} in {hours:g} h"
            for hours, value in zip(frame.forecast.hours[1:], ahead[1:], strict=True)
        ),
        soft_wrap=True,
    )
    load = f"{frame.load.values[-1]:.0f} requests/s" if len(frame.load.values) else "no interval yet"
    console.print(
        f"load       {sparkline(frame.load, COLUMNS, top=frame.capacity)} {load}"
        f" (BASE's capacity {frame.capacity:.0f})",
        soft_wrap=True,
    )
    p95 = frame.p95_over_sla.values
    now = f"{p95[-1]:.2f} of the SLA" if len(p95) and not np.isnan(p95[-1]) else "no request yet"
    broken = bool(len(p95)) and p95[-1] > 1.0
    console.print(
        Text(f"p95        {sparkline(frame.p95_over_sla, COLUMNS, top=1.0)} ")
        + Text(now, style="bold red" if broken else ""),
        soft_wrap=True,
    )
    for number, gpu in enumerate(frame.gpus):
        lost = number >= len(frame.gpus) - frame.lost
        console.print(Text(f"GPU {number:<6} ") + _gpu(gpu, colours, lost=lost))
    legend = Text("variants   ")
    for name, rgb in colours.items():
        legend += Text(f" {name} ", style=_style(rgb)) + Text(" ")
    console.print(legend)
    if frame.summary:
        found = frame.summary
        console.print(
            f"so far     carbon {100 * found['episode_carbon_saving']:.1f} % under BASE, "
            f"accuracy {found['episode_accuracy']:.4f} (BASE {frame.accuracy_base:.4f}), "
            f"SLA held {100 * found['episode_sla_held_share']:.1f} %, "
            f"{found['episode_transitions']:.0f} transitions",
            soft_wrap=True,
        )
    return out.getvalue().rstrip("\n")


def sparkline(trail: Trail, columns: int, top: float | None = None) -> str:
    """The last values as bars from zero to `top` (their largest when left out), latest at the right.

    What is not known is a space; what is over the top is a full bar.
    """
    values = trail.values
    if len(values) > columns:  # one bar stands for several values: their largest
        values = np.array([np.fmax.reduce(part) for part in np.array_split(values, columns)])
    finite = values[np.isfinite(values)]
    limit = top or (float(finite.max()) if len(finite) else 1.0) or 1.0
    bars = [
        " " if np.isnan(value) else BARS[int(np.clip(value / limit * len(BARS), 0, len(BARS) - 1))]
        for value in values
    ]
    return "".join(bars).rjust(columns)


def _style(background: Rgb) -> Style:
    ink = ink_on(background)
    return Style(color=f"rgb({ink[0]},{ink[1]},{ink[2]})", bgcolor="rgb({},{},{})".format(*background))


def _gpu(gpu: GpuConfiguration, colours: dict[str, Rgb], *, lost: bool) -> Text:
    """The memory slices of a GPU from 0 to 7, a column of CELL characters each."""
    width = MEMORY_SLICES * CELL
    if lost:
        return Text(f"{'unavailable':^{width}}", style=_style(LOST))
    if gpu.parked:
        return Text(f"{'parked':^{width}}", style=_style(PARKED))
    line = Text()
    at = 0
    for item in gpu.placed:
        place = item.placement
        line += Text("·" * ((place.start - at) * CELL))
        inner = f"{place.slice}:{item.variant}"[: place.size * CELL - 2]
        line += Text(f"[{inner:^{place.size * CELL - 2}}]", style=_style(colours[item.variant]))
        at = place.start + place.size
    return line + Text("·" * ((MEMORY_SLICES - at) * CELL))
