"""Scene: what an environment shows, gathered from observations and infos, and the modes that show it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration
from clover_rl.control.state import FORECAST_HOURS, PAST_HOURS
from clover_rl.envs.summary import EpisodeSummary
from clover_rl.errors import InputError

if TYPE_CHECKING:
    from clover_rl.control.codecs import ObservationCodec
    from clover_rl.envs.scenario import Scenario
    from clover_rl.simulation.model import ClusterModel

__all__ = ["RENDER_FPS", "RENDER_MODES", "WINDOW_H", "Frame", "Scene", "Trail", "raw_fields"]

RENDER_MODES = ("rgb_array", "human", "ansi")
RENDER_FPS = 12
WINDOW_H = 24.0
"""Hours of the signals that a frame looks back, and ahead where there is a forecast."""

Floats = NDArray[np.float64]


class Trail(NamedTuple):
    """A quantity over time: hours of the signals from now (negative: past) and values, each of shape (n,)."""

    hours: Floats
    values: Floats


class Frame(NamedTuple):
    """Everything that one picture shows, as plain values; shares are 0 to 1.

    Attributes:
        scenario: its name.
        step: completed intervals of the episode.
        hour: local hour of day.
        intensity, forecast: gCO2/kWh, up to now and from now on.
        load, capacity: requests/s of completed intervals, and what BASE could serve.
        p95_over_sla: of completed intervals; infinite where requests timed out.
        accuracy: of completed intervals, between those of the smallest and of the largest variant.
        accuracy_low, accuracy_base: accuracy of the smallest variant, and of BASE.
        w, sla_ms: the objective's weight of carbon and its bound.
        gpus: what runs where.
        lost: GPUs that may not be used now.
        variants: from the smallest to the largest.
        summary: of the episode so far, as EpisodeSummary names it; empty before the first interval.
    """

    scenario: str
    step: int
    hour: float
    intensity: Trail
    forecast: Trail
    load: Trail
    capacity: float
    p95_over_sla: Trail
    accuracy: Trail
    accuracy_low: float
    accuracy_base: float
    w: float
    sla_ms: float
    gpus: tuple[GpuConfiguration, ...]
    lost: int
    variants: tuple[str, ...]
    summary: Mapping[str, float]


class Painter(Protocol):
    """Draws frames as pictures."""

    def paint(self, frame: Frame) -> NDArray[np.uint8]:
        """One frame as RGB, shape (height, width, 3)."""
        ...


class Window(Protocol):
    """Shows pictures on a display."""

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Replace what is shown."""
        ...

    def close(self) -> None:
        """Close the window."""
        ...


def raw_fields(codec: ObservationCodec, observation: NDArray[np.float32]) -> dict[str, Floats]:
    """The observation's fields in their own units, clipped where the observation is."""
    found: dict[str, Floats] = {}
    at = 0
    for field in codec.fields:
        part = observation[at : at + field.size].astype(np.float64)
        found[field.name] = part * field.scale + field.offset
        at += field.size
    return found


class Scene:
    """What one episode shows.

    It needs only what the environment returns, so that it draws what a policy sees and nothing else.

    Args:
        mode: one of RENDER_MODES.
        scenario, model, codec: of the environment.

    Raises:
        InputError: no such mode.
    """

    def __init__(self, mode: str, scenario: Scenario, model: ClusterModel, codec: ObservationCodec) -> None:
        if mode not in RENDER_MODES:
            raise InputError(f"unknown render mode `{mode}`", fix=f"use one of {', '.join(RENDER_MODES)}")
        self.mode = mode
        self._scenario, self._model, self._codec = scenario, model, codec
        self._hours = scenario.interval_s * scenario.time_scale / 3600.0
        kept = int(WINDOW_H / self._hours) + 2
        self._intensity: deque[float] = deque(maxlen=kept)
        self._completed: deque[tuple[float, float, float]] = deque(maxlen=kept)
        self._fields: dict[str, Floats] = {}
        self._first: dict[str, Floats] = {}
        self._info: dict[str, Any] = {}
        self._summary = EpisodeSummary(1, model.baseline.accuracy)
        self._step = 0
        self._painter: Painter | None = None
        self._window: Window | None = None
        self._windowless = False

    def __getstate__(self) -> dict[str, Any]:
        """Without figure and window, which are made again where they are needed."""
        return self.__dict__ | {"_painter": None, "_window": None}

    def begin(self, observation: NDArray[np.float32], info: Mapping[str, Any]) -> None:
        """A new episode, as `reset` returned it."""
        self._intensity.clear()
        self._completed.clear()
        self._step = 0
        self._summary.reset(np.zeros(1, np.intp))
        self._first = self._look(observation)
        self._info = dict(info)
        self._shown()

    def add(self, observation: NDArray[np.float32], reward: float, info: Mapping[str, Any]) -> None:
        """One interval, as `step` returned it."""
        self._step += 1
        self._look(observation)
        self._info = dict(info)
        self._summary.add_info(reward, info)
        sla = info["p95_ms"] / info["sla_ms"] if info["arrived"] > 0 else np.nan
        accuracy = info["accuracy"] if info["answered"] > 0 else np.nan
        self._completed.append((info["arrived"] / self._scenario.interval_s, sla, accuracy))
        self._shown()

    def _look(self, observation: NDArray[np.float32]) -> dict[str, Floats]:
        self._fields = raw_fields(self._codec, observation)
        self._intensity.append(float(self._fields["intensity"][0]))
        return self._fields

    def _shown(self) -> None:
        if self.mode == "human":
            self._show()

    def frame(self) -> Frame:
        """What is to be drawn now.

        Raises:
            InputError: before the first `reset`.
        """
        if not self._fields:
            raise InputError("there is nothing to render yet", fix="call reset() first")
        model, info, fields = self._model, self._info, self._fields
        application = model.profile.application
        ends = np.asarray(-self._hours * np.arange(len(self._completed))[::-1], np.float64)
        load, p95, accuracy = np.array(self._completed).T if self._completed else np.empty((3, 0), np.float64)
        sine, cosine = fields["clock"][:2]
        text = info.get("configuration")
        configuration = (
            ClusterConfiguration.parse(text, model.profile) if text else model.catalogue[model.base]
        )
        return Frame(
            scenario=self._scenario.name,
            step=self._step,
            hour=float(np.arctan2(sine, cosine) / (2.0 * np.pi) % 1.0 * 24.0),
            intensity=self._past_intensity(),
            forecast=Trail(
                np.array([0.0, *FORECAST_HOURS]),
                np.concatenate([fields["intensity"], fields["intensity_forecast"]]),
            ),
            load=Trail(ends, load),
            capacity=model.baseline.capacity,
            p95_over_sla=Trail(ends, p95),
            accuracy=Trail(ends, accuracy),
            accuracy_low=application.smallest.accuracy,
            accuracy_base=model.baseline.accuracy,
            w=float(info.get("w", np.nan)),
            sla_ms=float(info.get("sla_ms", model.sla_ms)),
            gpus=configuration.gpus,
            lost=model.gpus - round(float(fields["available"][0]) * model.gpus),
            variants=tuple(application.variants),
            summary=self._summary.result(0) if self._step else {},
        )

    def _past_intensity(self) -> Trail:
        """What the first observation remembers, then what each observation saw."""
        seen = np.array(self._intensity)
        hours = -self._hours * np.arange(len(seen))[::-1]
        older = -(np.array(PAST_HOURS) + self._step * self._hours)
        trail = Trail(
            np.concatenate([older[::-1], hours]), np.concatenate([self._first["intensity_past"][::-1], seen])
        )
        # from the last point outside the window, so that the line reaches its edge
        first = max(int(np.searchsorted(trail.hours, -WINDOW_H, side="right")) - 1, 0)
        return Trail(trail.hours[first:], trail.values[first:])

    def render(self) -> NDArray[np.uint8] | str | None:
        """The frame in the scene's mode, as Gymnasium's `Env.render` says; None in mode human."""
        if self.mode == "rgb_array":
            return self._paint()
        if self.mode == "ansi":
            from clover_rl.envs.render_text import frame_text

            return frame_text(self.frame())
        return None  # shown by `reset` and `step`

    def _paint(self) -> NDArray[np.uint8]:
        if self._painter is None:
            from clover_rl.envs.render_figure import FramePainter

            self._painter = FramePainter()
        return self._painter.paint(self.frame())

    def _show(self) -> None:
        """In a window where there is a display, else as text on stdout."""
        if self._window is None and not self._windowless:
            from clover_rl.envs.render_window import open_window

            self._window = open_window(self._scenario.name)
            self._windowless = self._window is None
        if self._window is not None:
            self._window.show(self._paint())
            return
        from clover_rl.envs.render_text import frame_text

        terminal = sys.stdout.isatty()
        clear = "\x1b[H\x1b[2J" if terminal else ""
        sys.stdout.write(clear + frame_text(self.frame(), colour=terminal) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._window is not None:
            self._window.close()
        self._window = self._painter = None
