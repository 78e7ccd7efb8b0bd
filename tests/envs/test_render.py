"""Rendering: what a frame says, how it is drawn, and Gymnasium's contract for each mode."""

from __future__ import annotations

import pickle
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import clover_rl  # noqa: F401  (registers the environments)
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.envs import render_window
from clover_rl.envs.render import RENDER_MODES, WINDOW_H, Frame, Scene, Trail, raw_fields
from clover_rl.envs.render_colours import LOST, PARKED, ink_on, variant_colours
from clover_rl.envs.render_figure import SIZE, FramePainter
from clover_rl.envs.render_text import frame_text, sparkline
from clover_rl.envs.render_window import PictureWindow, open_window
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.errors import InputError, MissingExtraError

NAME = "clover_rl/MIGCluster-v0"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(render_window.sys, "platform", "linux")


class Played:
    """An environment with a scene beside it, and what they returned."""

    def __init__(self, scenario: str, mode: str = "rgb_array", **arguments: Any) -> None:
        self.env = MIGClusterEnv(scenario, **({"w": 0.1} | arguments))
        self.scene = Scene(mode, self.env.scenario, self.env.model, self.env.observation_codec)
        self.observation, info = self.env.reset(seed=1)
        self.scene.begin(self.observation, info)
        self.rewards: list[float] = []
        self.infos: list[dict[str, Any]] = []

    def step(self, *actions: int) -> Frame:
        for action in actions:
            self.observation, reward, _, _, info = self.env.step(np.int64(action))
            self.scene.add(self.observation, reward, info)
            self.rewards.append(reward)
            self.infos.append(info)
        return self.scene.frame()


@pytest.fixture
def played(scenario_file: str) -> Played:
    return Played(scenario_file)


def test_a_frame_holds_what_the_environment_returned(played: Played) -> None:
    frame = played.step(3, 3, 5, 0)
    infos, env = played.infos, played.env
    assert (frame.scenario, frame.step, frame.w) == ("small", 4, 0.1)
    assert frame.sla_ms == pytest.approx(env.model.sla_ms)
    np.testing.assert_allclose(frame.load.values, [info["arrived"] / 300.0 for info in infos])
    np.testing.assert_allclose(frame.p95_over_sla.values, [i["p95_ms"] / i["sla_ms"] for i in infos])
    np.testing.assert_allclose(frame.accuracy.values, [info["accuracy"] for info in infos])
    np.testing.assert_allclose(frame.load.hours, np.array([-3, -2, -1, 0]) / 12.0)
    assert ClusterConfiguration(frame.gpus) == env.model.catalogue[0]
    saved = 1 - sum(i["carbon_g"] for i in infos) / sum(i["base_carbon_g"] for i in infos)
    assert frame.summary["episode_carbon_saving"] == pytest.approx(saved)
    raw = raw_fields(env.observation_codec, played.observation)
    assert frame.intensity.values[-1] == raw["intensity"][0]
    np.testing.assert_array_equal(frame.forecast.values[1:], raw["intensity_forecast"])
    np.testing.assert_array_equal(frame.forecast.hours, [0.0, 1.0, 3.0, 6.0, 24.0])
    assert (np.diff(frame.intensity.hours) > 0).all()


def test_fields_read_back_from_an_observation_are_in_their_units(played: Played) -> None:
    raw = raw_fields(played.env.observation_codec, played.observation)
    codec = played.env.observation_codec
    again = np.concatenate([codec.encode_field(name, values) for name, values in raw.items()])
    np.testing.assert_allclose(again, played.observation, rtol=1e-6, atol=1e-6)
    assert raw["log_w"][0] == pytest.approx(-1.0, abs=1e-6)


def test_a_frame_looks_back_a_day_and_no_further(scenario_file: str) -> None:
    played = Played(scenario_file, days=2.0)
    first = played.scene.frame()
    assert first.intensity.hours[0] == -24.0
    assert first.summary == {}
    assert len(first.load.values) == 0
    assert first.gpus == played.env.model.catalogue[played.env.model.base].gpus
    frame = played.step(*([0] * 400))
    for trail in (frame.intensity, frame.load, frame.accuracy):
        assert trail.hours[0] >= -WINDOW_H - 2 / 12.0
        assert trail.hours[-1] == 0.0
    assert frame.intensity.hours[0] <= -WINDOW_H < frame.intensity.hours[1]


def test_a_new_episode_starts_an_empty_frame(played: Played) -> None:
    played.step(1, 2, 3)
    observation, info = played.env.reset(seed=9)
    played.scene.begin(observation, info)
    frame = played.scene.frame()
    assert (frame.step, len(frame.load.values), frame.summary) == (0, 0, {})
    assert len(frame.intensity.values) == 4


def test_an_interval_without_requests_leaves_a_gap(played: Played) -> None:
    played.step(0)
    played.scene.add(
        played.observation, 0.0, played.infos[0] | {"arrived": 0.0, "answered": 0.0, "p95_ms": 0.0}
    )
    frame = played.scene.frame()
    assert np.isnan(frame.p95_over_sla.values[-1])
    assert np.isnan(frame.accuracy.values[-1])
    assert "no request yet" in frame_text(frame, colour=False)
    assert FramePainter().paint(frame).shape == (SIZE[1], SIZE[0], 3)


def pixels_of(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    return int((picture == np.array(colour, np.uint8)).all(axis=-1).sum())


def test_slices_are_drawn_in_their_variants_colours_and_parked_gpus_grey(played: Played) -> None:
    catalogue = played.env.model.catalogue
    colours = dict(zip(("S", "L"), variant_colours(2), strict=True))
    painter = FramePainter()
    for action, configuration in enumerate(catalogue.configurations):
        frame = played.scene.frame()._replace(gpus=configuration.gpus)
        picture = painter.paint(frame)
        used = {variant for variant, _ in configuration.graph}
        for variant, colour in colours.items():
            assert (pixels_of(picture, colour) > 2000) == (variant in used), (action, variant)
        assert (pixels_of(picture, PARKED) > 2000) == (configuration.active < 2)


def test_a_lost_gpu_is_drawn_as_such(played: Played) -> None:
    frame = played.step(0)._replace(lost=1)
    assert pixels_of(FramePainter().paint(frame), LOST) > 2000
    assert "unavailable" in frame_text(frame, colour=False)


def test_the_picture_is_the_same_whether_its_figure_was_used_before_or_not(played: Played) -> None:
    used = FramePainter()
    for action in (0, 5, 11, 2):
        frame = played.step(action)
        picture = used.paint(frame)
        assert (picture.dtype, picture.shape) == (np.uint8, (SIZE[1], SIZE[0], 3))
        assert np.array_equal(picture, FramePainter().paint(frame))
        assert np.array_equal(picture, used.paint(frame))


def test_limits_grow_with_what_is_drawn(played: Played) -> None:
    painter = FramePainter()
    frame = played.step(0)
    before = painter.paint(frame)
    high = frame._replace(intensity=Trail(frame.intensity.hours, frame.intensity.values + 5000.0))
    assert not np.array_equal(before, painter.paint(high))
    infinite = frame._replace(p95_over_sla=Trail(frame.p95_over_sla.hours, np.array([np.inf])))
    assert "inf of the SLA" in frame_text(infinite, colour=False)
    assert painter.paint(infinite).shape == before.shape


@pytest.mark.parametrize("gpus", [1, 8, 9, 64])
def test_clusters_of_any_size_are_drawn(played: Played, gpus: int) -> None:
    frame = played.step(0)
    many = frame._replace(gpus=tuple(frame.gpus[index % 2] for index in range(gpus)))
    assert FramePainter().paint(many).shape == (SIZE[1], SIZE[0], 3)
    assert f"GPU {gpus - 1} " in frame_text(many, colour=False)


def test_text_shows_slices_at_their_places(played: Played) -> None:
    frame = played.step(0)
    parse = ClusterConfiguration.parse
    configuration = parse("4g@0:L+3g@4:S | 1g@2:S+1g@6:S", played.env.model.profile)
    lines = frame_text(frame._replace(gpus=configuration.gpus), colour=False).splitlines()
    first, second = (next(line for line in lines if line.startswith(f"GPU {gpu}"))[11:] for gpu in (0, 1))
    assert first.index("4g:L") < 24 <= first.index("[", 1) < first.index("3g:S")
    assert second == "·" * 12 + "[1g:S]" + "·" * 18 + "[1g:S]" + "·" * 6
    assert "small  step 1" in lines[0]


def test_coloured_text_says_the_same_as_plain_text(played: Played) -> None:
    frame = played.step(0, 4)
    coloured = frame_text(frame)
    assert "\x1b[" in coloured
    assert SEQUENCE.sub("", coloured) == frame_text(frame, colour=False)


def test_bars_go_from_zero_to_the_top_and_gaps_stay_open() -> None:
    values = np.array([0.0, 0.5, 1.0, np.nan, np.inf])
    assert sparkline(Trail(np.arange(5.0), values), 6, top=1.0) == " ▁▅█ █"
    assert sparkline(Trail(np.arange(100.0), np.full(100, 3.0)), 10) == "█" * 10
    assert sparkline(Trail(np.empty(0), np.empty(0)), 4) == "    "
    assert sparkline(Trail(np.arange(2.0), np.zeros(2)), 2) == "▁▁"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9])
def test_colours_of_variants_differ_and_darken_with_size(n: int) -> None:
    colours = variant_colours(n)
    assert len(set(colours)) == n
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in colours]
    assert lightness == sorted(lightness, reverse=True)
    assert ink_on((255, 255, 255)) == (0, 0, 0)
    assert ink_on((20, 20, 90)) == (255, 255, 255)


def test_a_scene_can_be_pickled_in_the_middle_of_an_episode(played: Played) -> None:
    played.step(0, 1)
    picture = played.scene.render()
    again = pickle.loads(pickle.dumps(played.scene))
    assert np.array_equal(again.render(), picture)


def test_an_unknown_mode_is_refused(scenario_file: str) -> None:
    with pytest.raises(InputError, match="unknown render mode `film`; use one of rgb_array, human, ansi"):
        Played(scenario_file, mode="film")


def test_pictures_without_matplotlib_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from clover_rl.envs import render_figure

    monkeypatch.setattr(render_figure, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"clover-rl\[render\]"):
        FramePainter()


def test_without_a_display_there_is_no_window(no_display: None) -> None:
    assert open_window("small") is None


def test_a_display_without_a_toolkit_gives_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    monkeypatch.setenv("DISPLAY", ":99")
    assert open_window("small") is None


def test_a_window_shows_the_pictures_one_after_the_other() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    window = PictureWindow("small")
    for value in (0, 200):
        picture = np.full((32, 48, 3), value, np.uint8)
        window.show(picture)
        window._figure.canvas.draw()
        drawn = np.asarray(window._figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
        assert (drawn[4:-4, 4:-4] == value).all()
    window.close()
    assert not plt.get_fignums()


def test_human_mode_uses_the_window_where_there_is_one(
    scenario_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Kept:
        def __init__(self) -> None:
            self.shown: list[NDArray[np.uint8]] = []
            self.closed = False

        def show(self, picture: NDArray[np.uint8]) -> None:
            self.shown.append(picture)

        def close(self) -> None:
            self.closed = True

    kept = Kept()
    monkeypatch.setattr(render_window, "open_window", lambda title: kept)
    played = Played(scenario_file, mode="human")
    played.step(0, 5)
    assert played.scene.render() is None
    assert len(kept.shown) == 3
    assert not np.array_equal(kept.shown[1], kept.shown[2])
    played.scene.close()
    assert kept.closed
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fidelity", ["table", "event"])
def test_every_mode_keeps_gymnasiums_contract(
    scenario_file: str, no_display: None, capsys: pytest.CaptureFixture[str], fidelity: str
) -> None:
    for mode in RENDER_MODES:
        env = gym.make(NAME, scenario=scenario_file, fidelity=fidelity, render_mode=mode)
        assert env.render_mode == mode
        assert env.metadata["render_fps"] > 0
        env.reset(seed=0)
        env.step(env.action_space.sample())
        shown = env.render()  # Gymnasium's passive checker looks at what is returned; warnings are errors
        assert isinstance(shown, {"rgb_array": np.ndarray, "ansi": str, "human": type(None)}[mode])
        printed = capsys.readouterr().out
        assert printed.count("small  step") == (2 if mode == "human" else 0)
        assert "\x1b" not in printed
        env.close()
        env.close()


def test_rendering_before_the_first_reset_says_so(scenario_file: str) -> None:
    env = gym.make(NAME, scenario=scenario_file, render_mode="ansi").unwrapped
    with pytest.raises(InputError, match=r"nothing to render yet; call reset\(\) first"):
        env.render()


def test_rendering_without_a_mode_warns_and_returns_nothing(scenario_file: str) -> None:
    env = MIGClusterEnv(scenario_file)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert env.render() is None


def test_lists_of_frames_are_collected(scenario_file: str) -> None:
    env = gym.make(NAME, scenario=scenario_file, render_mode="rgb_array_list")
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    frames: Any = env.render()
    assert [frame.shape for frame in frames] == [(SIZE[1], SIZE[0], 3)] * 4
    assert len({frame.tobytes() for frame in frames}) == 4


def test_lost_gpus_are_shown_as_the_observation_says(scenario_file: str) -> None:
    env = gym.make(NAME, scenario=scenario_file, render_mode="ansi", losses_per_week=200.0, outage_hours=0.5)
    base = env.unwrapped
    assert isinstance(base, MIGClusterEnv)
    env.reset(seed=0)
    found = set()
    for _ in range(100):
        env.step(env.action_space.sample())
        lost = base.model.gpus - int(base.core.available[0])
        assert str(env.render()).count("unavailable") == lost
        found.add(lost)
    assert len(found) > 1


@pytest.mark.skipif(find_spec("moviepy") is None, reason="Gymnasium films with moviepy, not installed")
def test_an_episode_is_filmed(scenario_file: str, tmp_path: Path) -> None:
    from gymnasium.wrappers import RecordVideo

    env = RecordVideo(
        gym.make(NAME, scenario=scenario_file, days=0.05, render_mode="rgb_array"), str(tmp_path)
    )
    env.reset(seed=0)
    truncated = False
    while not truncated:
        truncated = env.step(env.action_space.sample())[3]
    env.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]
