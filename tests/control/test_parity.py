"""Loop, environment and replayed ledger give the same observations, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clover_rl.cluster.interval import Interval
from clover_rl.control.ledger import Ledger
from clover_rl.control.loop import ControlLoop, StepRecord
from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.envs import core as core_module
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import Scenario
from clover_rl.envs.signals import draw_signals
from clover_rl.simulation.cluster import SimulatedCluster
from clover_rl.simulation.model import ClusterModel

MakeLoop = Callable[..., ControlLoop]
Observations = list[NDArray[np.float32]]

STEPS = 60
SEED = 17


def actions(model: ClusterModel) -> list[int]:
    """BASE first, as both begin with it, then all kinds of changes, some of them kept for a while."""
    rng = np.random.default_rng(2)
    found = [model.base]
    while len(found) < STEPS:
        found += [int(rng.integers(len(model.catalogue)))] * int(rng.integers(1, 4))
    return found[:STEPS]


@pytest.fixture
def twins(
    small_scenario: Scenario, small_model: ClusterModel, make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> tuple[Observations, list[dict[str, Any]], list[ControlState], list[StepRecord]]:
    """Observations and infos of the environment; states and records of the loop; the same episode."""
    built: list[dict[str, Any]] = []

    def record(*arguments: Any, **named: Any) -> SimulatedCluster:
        built.append(named)
        return SimulatedCluster(*arguments, **named)

    monkeypatch.setattr(core_module, "SimulatedCluster", record)
    script = actions(small_model)
    env = MIGClusterEnv(small_scenario, split="test", fidelity="event", w=0.1)
    observations, infos = [env.reset(seed=SEED)[0]], []
    for action in script:
        observation, *_, info = env.step(np.int64(action))
        observations.append(observation)
        infos.append(info)
    # The episode's signals are the first thing that its generator draws.
    signals = draw_signals(
        small_scenario,
        small_model.baseline.capacity,
        "test",
        small_scenario.episode.days,
        np.random.default_rng(SEED),
    )
    loop = make_loop(*script)
    loop.carbon, load = signals.feeds(small_scenario)
    loop.cluster = SimulatedCluster(
        small_model.profile,
        small_model.catalogue[small_model.base],
        load,
        seed=built[-1]["seed"],
        timeout_s=small_scenario.timeout_s,
    )
    records = [loop.step() for _ in script]
    states: list[ControlState] = [*loop.controller.states, loop.state()]  # type: ignore[attr-defined]
    return observations, infos, states, records


def test_the_loops_states_encode_to_the_environments_observations(
    twins: tuple[Observations, list[dict[str, Any]], list[ControlState], list[StepRecord]],
    small_scenario: Scenario,
    small_model: ClusterModel,
) -> None:
    observations, _, states, _ = twins
    codec = small_scenario.observation_codec(small_model)
    # The environment begins with rates off the trace, the loop with none: they agree six intervals later.
    for number in range(RATE_LAGS, STEPS + 1):
        assert np.array_equal(codec.encode(states[number]), observations[number]), number
    assert len({row.tobytes() for row in observations}) == STEPS + 1


def test_the_loops_scores_are_the_environments_rewards(
    twins: tuple[Observations, list[dict[str, Any]], list[ControlState], list[StepRecord]],
) -> None:
    _, infos, _, records = twins
    for info, record in zip(infos, records, strict=True):
        interval, score = record.interval, record.score
        assert info["arrived"] == interval.arrived
        assert info["answered"] == interval.answers
        assert info["energy_j"] == interval.energy.joules
        assert info["p95_ms"] == interval.p95_ms
        assert info["intensity"] == record.intensity
        assert info["carbon_g"] == pytest.approx(score.carbon_g, rel=1e-12)
        assert info["base_carbon_g"] == pytest.approx(score.base_carbon_g, rel=1e-12)
        assert info["reward_terms"] == {
            "carbon": score.carbon_term,
            "accuracy": score.accuracy_term,
            "penalty": score.penalty_term,
            "invalid": 0.0,
        }


def test_intervals_that_were_written_and_read_encode_to_the_same_bits(
    twins: tuple[Observations, list[dict[str, Any]], list[ControlState], list[StepRecord]],
    small_scenario: Scenario,
    small_model: ClusterModel,
) -> None:
    codec = small_scenario.observation_codec(small_model)
    *_, states, _ = twins
    for state in states:
        texts = [json.dumps(interval.to_dict()) for interval in state.intervals]
        read = tuple(Interval.from_dict(json.loads(text), small_model.profile) for text in texts)
        assert read == state.intervals
        replayed = ControlState(
            **{name: getattr(state, name) for name in ControlState.__dataclass_fields__} | {"intervals": read}
        )
        assert np.array_equal(codec.encode(replayed), codec.encode(state))


@pytest.fixture
def ledger(small_model: ClusterModel, tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(tmp_path / "ledger.sqlite", small_model.profile, {"scenario": "small"})
    yield found
    found.close()


def test_a_day_in_the_ledger_replays_to_the_same_observations(
    ledger: Ledger, make_loop: MakeLoop, small_scenario: Scenario, small_model: ClusterModel
) -> None:
    codec = small_scenario.observation_codec(small_model)
    loop = make_loop(7, (5, 100.0), 11, 3, (7, 40.0), 10, 0)
    loop.on_decision = lambda state, decision: ledger.decided("scripted", state, decision)
    interval = loop.warm_up()
    ledger.served("scripted", interval, loop.objective, loop.carbon.mean_over(0.0, 300.0))
    for _ in range(12):
        ledger.stepped("scripted", loop.step())
    states: list[ControlState] = loop.controller.states  # type: ignore[attr-defined]
    replayed = list(ledger.states())
    assert replayed == states
    assert any(state.partial for state in replayed)
    for one, other in zip(replayed, states, strict=True):
        assert np.array_equal(codec.encode(one), codec.encode(other))
    assert ledger.recent_intervals() == loop.intervals
