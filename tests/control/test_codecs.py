"""Codecs: observations in bounds whatever happens, actions there and back."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.histogram import Histogram
from clover_rl.cluster.interval import Energy, Interval
from clover_rl.control.codecs import ActionCodec, Features, ObservationCodec, clock_features
from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel


@pytest.fixture(scope="module")
def codec(small_scenario: Scenario, small_model: ClusterModel) -> ObservationCodec:
    return small_scenario.observation_codec(small_model)


@pytest.fixture(scope="module")
def actions(small_scenario: Scenario, small_model: ClusterModel) -> ActionCodec:
    return small_scenario.action_codec(small_model)


def interval(model: ClusterModel, *, arrived: int = 3000, queued: int = 0, late_s: float = 0.0) -> Interval:
    return Interval(
        start=0.0,
        duration_s=300.0,
        arrived=arrived,
        answered={"L": arrived - queued},
        timed_out=0,
        failed=0,
        queued=queued,
        oldest_queued_s=late_s,
        latency=Histogram(),
        energy=Energy(1e5, "modelled"),
        configuration=model.catalogue[model.base],
    )


@pytest.fixture(scope="module")
def state(small_scenario: Scenario, small_model: ClusterModel) -> ControlState:
    return ControlState(
        time_s=3600.0,
        interval_s=300.0,
        hour_of_week=30.0,
        configuration=small_model.catalogue[3],
        intervals=(interval(small_model, arrived=6000), interval(small_model, queued=500, late_s=0.05)),
        intensity=250.0,
        intensity_past=(200.0, 150.0, 100.0),
        intensity_forecast=(300.0, 350.0, 400.0, 500.0),
        objective=small_scenario.objective(small_model, 0.1),
        available=(True, True),
    )


def by_name(codec: ObservationCodec, vector: NDArray[np.float32]) -> dict[str, list[float]]:
    found, at = {}, 0
    for field in codec.fields:
        found[field.name] = vector[at : at + field.size].tolist()
        at += field.size
    assert at == codec.size == len(vector)
    return found


def test_each_field_is_scaled_as_it_declares(
    codec: ObservationCodec, state: ControlState, small_model: ClusterModel
) -> None:
    vector = codec.encode(state)
    assert vector.dtype == np.float32
    fields = by_name(codec, vector)
    capacity = small_model.baseline.capacity
    assert fields["intensity"] == [1.0]
    assert fields["intensity_past"] == pytest.approx([0.8, 0.6, 0.4])
    assert fields["intensity_forecast"] == pytest.approx([1.2, 1.4, 1.6, 2.0])
    assert fields["rate"] == pytest.approx([10.0 / capacity] + [20.0 / capacity] * (RATE_LAGS - 1))
    assert fields["clock"] == pytest.approx(
        [1.0, 0.0, math.sin(2 * math.pi * 30 / 168), math.cos(2 * math.pi * 30 / 168)], abs=1e-6
    )
    assert fields["p95_over_sla"] == pytest.approx([50.0 / small_model.sla_ms])
    assert fields["queued"] == pytest.approx([500.0 / (capacity * 300.0)])
    assert fields["log_w"] == pytest.approx([0.3 / 0.75])
    assert fields["log_sla"] == [0.0]


def test_the_configuration_is_counted_per_variant_and_slice(
    codec: ObservationCodec, state: ControlState
) -> None:
    """One GPU of two with a large variant on 4g and a small one on 3g."""
    assert codec.slots == (
        *(("S", name) for name in ("7g", "4g", "3g", "2g", "1g")),
        *(("L", name) for name in ("7g", "4g", "3g")),
    )
    expected = [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5, 0.0, 0.5]
    assert by_name(codec, codec.encode(state))["configuration"] == expected


def test_a_state_without_history_can_be_encoded(codec: ObservationCodec, state: ControlState) -> None:
    fields = by_name(codec, codec.encode(replace(state, intervals=())))
    assert fields["rate"] == [0.0] * RATE_LAGS
    assert fields["p95_over_sla"] == fields["queued"] == [0.0]


def test_another_sla_shows(codec: ObservationCodec, state: ControlState, small_model: ClusterModel) -> None:
    relaxed = replace(state.objective, sla_ms=2.0 * small_model.sla_ms)
    fields = by_name(codec, codec.encode(replace(state, objective=relaxed)))
    assert fields["log_sla"] == [1.0]
    assert fields["p95_over_sla"] == pytest.approx([25.0 / small_model.sla_ms])


def test_encoding_can_write_into_an_array(codec: ObservationCodec, state: ControlState) -> None:
    out = np.zeros(codec.size, np.float32)
    assert codec.encode(state, out) is out
    assert np.array_equal(out, codec.encode(state))


ANY = st.floats(0.0, 1e12)


@given(
    st.tuples(*[ANY] * 8),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.floats(0.0, math.inf),
    st.floats(1e-6, 1.0 - 1e-6),
    st.floats(1e-3, 1e7),
    st.floats(0.0, 168.0),
)
def test_observations_stay_in_bounds_whatever_happens(
    codec: ObservationCodec,
    state: ControlState,
    small_model: ClusterModel,
    intensities: tuple[float, ...],
    arrived: int,
    queued: int,
    late_s: float,
    w: float,
    sla_ms: float,
    hour: float,
) -> None:
    odd = replace(
        state,
        intensity=intensities[0],
        intensity_past=intensities[1:4],
        intensity_forecast=intensities[4:8],
        intervals=(interval(small_model, arrived=arrived, queued=queued, late_s=late_s),),
        objective=replace(state.objective, w=w, sla_ms=sla_ms),
        hour_of_week=hour,
    )
    vector = codec.encode(odd)
    low, high = codec.bounds
    assert np.isfinite(vector).all()
    assert ((vector >= low) & (vector <= high)).all()


def test_many_states_at_once_equal_one_by_one(codec: ObservationCodec, state: ControlState) -> None:
    states = [replace(state, intensity=100.0 * k, hour_of_week=7.0 * k) for k in range(5)]
    rows = [codec.features(item) for item in states]
    together = Features(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))
    out = np.empty((5, codec.size), np.float32)
    codec.encode_features(together, out)
    assert np.array_equal(out, np.stack([codec.encode(item) for item in states]))


def test_the_codec_survives_json(codec: ObservationCodec, state: ControlState) -> None:
    again = ObservationCodec.from_dict(json.loads(json.dumps(codec.to_dict())))
    assert again == codec
    assert np.array_equal(again.encode(state), codec.encode(state))


@pytest.mark.parametrize("change", ["drop", "rename", "reorder", "unknown", "no gpus"])
def test_a_codec_of_another_version_is_refused(codec: ObservationCodec, change: str) -> None:
    content = json.loads(json.dumps(codec.to_dict()))
    fields = content["fields"]
    if change == "drop":
        fields.pop()
    elif change == "rename":
        fields[0]["name"] = "price"
    elif change == "reorder":
        fields.reverse()
    elif change == "unknown":
        fields[0]["colour"] = "green"
    else:
        del content["gpus"]
    with pytest.raises(InputError, match="export the policy again"):
        ObservationCodec.from_dict(content)


def test_every_field_says_unit_and_meaning(codec: ObservationCodec) -> None:
    assert tuple(field.name for field in codec.fields) == Features._fields
    assert all(field.unit and field.about and field.low < field.high for field in codec.fields)


@given(st.floats(0.0, 168.0))
def test_the_clock_goes_round_by_day_and_week(hour: float) -> None:
    day_sine, day_cosine, week_sine, week_cosine = clock_features(np.array([hour]))[0]
    assert day_sine**2 + day_cosine**2 == pytest.approx(1.0)
    assert week_sine**2 + week_cosine**2 == pytest.approx(1.0)
    later = clock_features(np.array([hour + 168.0]))[0]
    assert later == pytest.approx([day_sine, day_cosine, week_sine, week_cosine], abs=1e-9)


def test_actions_go_there_and_back(actions: ActionCodec) -> None:
    for action in range(len(actions.catalogue)):
        assert actions.encode(actions.decode(action)) == action


def test_gpus_are_interchangeable(actions: ActionCodec) -> None:
    one = actions.decode(3)
    swapped = ClusterConfiguration(one.gpus[::-1])
    assert swapped != one
    assert actions.encode(swapped) == 3


@pytest.mark.parametrize("action", [-1, 12])
def test_an_action_outside_the_catalogue_is_refused(actions: ActionCodec, action: int) -> None:
    with pytest.raises(InputError, match=f"action {action} is outside the catalogue; use 0 to 11"):
        actions.decode(action)


def test_a_configuration_outside_the_catalogue_is_refused(actions: ActionCodec) -> None:
    with pytest.raises(InputError, match="is not in the catalogue"):
        actions.encode(ClusterConfiguration.parked(2))


def test_masks_forbid_what_needs_more_gpus_than_there_are(actions: ActionCodec, state: ControlState) -> None:
    assert actions.masks(state).all()
    one = actions.masks(replace(state, available=(False, True)))
    assert np.array_equal(one, actions.active <= 1)
    assert 0 < one.sum() < len(one)
    assert np.array_equal(actions.masks(replace(state, available=(False, False))), one)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_no_row_of_masks_is_all_false(actions: ActionCodec, available: list[int]) -> None:
    masks = actions.masks_for(np.array(available))
    assert masks.shape == (len(available), len(actions.catalogue))
    assert masks.any(axis=1).all()


def test_the_hash_is_the_catalogues(actions: ActionCodec, small_model: ClusterModel) -> None:
    content = json.loads(json.dumps(actions.to_dict()))
    assert content["catalogue_hash"] == small_model.catalogue.hash
    parsed = type(small_model.catalogue).parse(content["catalogue"], small_model.profile)
    assert parsed == small_model.catalogue
