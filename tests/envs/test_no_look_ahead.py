"""What a decision sees never depends on what comes after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from clover_rl.envs import core as core_module
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.signals import EpisodeSignals, draw_signals
from clover_rl.signals import TraceSignal
from clover_rl.simulation.model import ClusterModel

DECISION = 36
"""Three hours into the episode: on a point of the carbon trace and on an edge of the load's bins."""

Observe = Callable[[bool, str], NDArray[np.float32]]


def other_future(trace: TraceSignal, t: float) -> TraceSignal:
    """The same trace up to and at `t`, or up to the bin that starts there, and another one after it."""
    after = trace.times_s > t if trace.interpolation == "linear" else trace.times_s >= t
    assert after.any()
    assert not after.all()
    return replace(trace, values=np.where(after, 3.0 * trace.values + 7.0, trace.values))


@pytest.fixture
def observe(small_scenario: Scenario, small_model: ClusterModel, monkeypatch: pytest.MonkeyPatch) -> Observe:
    def run(changed: bool, forecast: str) -> NDArray[np.float32]:
        scenario = load_scenario(small_scenario, carbon={"forecast": forecast})

        def signals(*arguments: object, **named: object) -> EpisodeSignals:
            found = draw_signals(*arguments, **named)  # type: ignore[arg-type]
            moment = found.start + DECISION * scenario.interval_s
            if not changed:
                return found
            return replace(
                found, carbon=other_future(found.carbon, moment), load=other_future(found.load, moment)
            )

        monkeypatch.setattr(core_module, "draw_signals", signals)
        core = EnvironmentCore(
            scenario, small_model, 1, EpisodeSettings(split="test", w=0.1, days=scenario.episode.days)
        )
        core.reset_row(0, np.random.default_rng(3))
        rows = [core.observe()[0]]
        for step in range(DECISION + 12):
            core.step([step % 12], np.zeros(1, np.intp))
            rows.append(core.observe()[0])
        return np.stack(rows)

    return run


@pytest.mark.parametrize("forecast", ["persistence", "typical-day"])
def test_another_future_changes_no_observation_before_it(observe: Observe, forecast: str) -> None:
    as_it_was, otherwise = observe(False, forecast), observe(True, forecast)
    assert np.array_equal(as_it_was[: DECISION + 1], otherwise[: DECISION + 1])
    assert (as_it_was[DECISION + 1 :] != otherwise[DECISION + 1 :]).any(axis=1).all()


def test_only_the_blurred_forecast_reads_the_future_and_only_in_its_own_field(
    observe: Observe, small_scenario: Scenario, small_model: ClusterModel
) -> None:
    as_it_was, otherwise = observe(False, "blurred"), observe(True, "blurred")
    changed = (as_it_was != otherwise)[: DECISION + 1].any(axis=0)
    names = [
        field.name
        for field in small_scenario.observation_codec(small_model).fields
        for _ in range(field.size)
    ]
    assert {name for name, differs in zip(names, changed, strict=True) if differs} == {"intensity_forecast"}
