"""The A100 profiles hold what the fit says, all 36 published numbers are predicted, every miss is named."""

from __future__ import annotations

import numpy as np
import pytest

from clover_rl.cluster.profile_file import load_profile
from clover_rl.simulation.validation.a100 import (
    ASSUMPTIONS,
    TOLERANCE,
    PredictedPoint,
    find_misses,
    predict_points,
)
from clover_rl.simulation.validation.a100_energy import TAIL_S, fit_energies, replayed_run
from clover_rl.simulation.validation.a100_fit import host_slowed, sample_p95_ms
from clover_rl.simulation.validation.a100_points import (
    APPLICATIONS,
    STATIC_PAIRS,
    configuration,
    published_points,
    sent_arrivals,
)
from clover_rl.simulation.validation.a100_profile import a100_numbers
from clover_rl.simulation.validation.a100_runs import PointRuns
from clover_rl.simulation.validation.a100_shape import fitted_shape, shape_for


@pytest.fixture(scope="module")
def predicted() -> list[PredictedPoint]:
    return predict_points()


@pytest.mark.parametrize("application", APPLICATIONS)
def test_a_shipped_profile_holds_what_the_fit_and_the_rule_say(application: str) -> None:
    profile, numbers = load_profile(f"a100-{application}"), a100_numbers(application)
    assert profile.jitter_cv == numbers.cv
    assert profile.power.idle_w == pytest.approx(numbers.idle_w, abs=0.06)
    for variant, row in numbers.service_ms.items():
        for name, value in row.items():
            assert 1000.0 * profile.service_s[variant][name] == pytest.approx(value, abs=0.06)
            assert profile.energy_j[variant][name] == pytest.approx(
                numbers.energy_j[variant][name], abs=0.006
            )
            service = profile.provenance_of("service", variant, name)
            assert service.kind == ("published" if (variant, name) in numbers.measured else "modelled")
            for entry, band in (
                (service, numbers.service_band[variant][name]),
                (profile.provenance_of("energy", variant, name), numbers.energy_band[variant][name]),
            ):
                assert entry.band == pytest.approx(band, abs=0.0101)


@pytest.mark.parametrize("application", APPLICATIONS)
def test_all_five_slices_hold_every_variant_and_what_was_never_published_says_so(application: str) -> None:
    profile = load_profile(f"a100-{application}")
    assert profile.interference is None
    assert {entry.kind for entry in profile.provenance.values()} <= {"published", "modelled"}
    for name in ("7g", "4g", "3g", "2g", "1g"):
        assert all(
            profile.fits(variant, profile.gpu.slices[name]) for variant in profile.application.variants
        )
    for part in ("parked_w", "limit_w"):
        entry = profile.provenance_of("power", part)
        assert entry.kind == "modelled"
        assert entry.band is not None
        assert "never published" in entry.source
    assert profile.provenance_of("power", "idle_w").kind == "published"
    memory = profile.provenance["memory"]
    assert memory.band is not None
    assert max(profile.memory_mib.values()) * memory.band[1] <= profile.gpu.slices["1g"].memory_mib


def test_idle_power_is_the_same_in_all_profiles_since_it_is_one_card() -> None:
    assert len({load_profile(f"a100-{name}").power for name in APPLICATIONS}) == 1


def test_time_is_not_work_over_sms_on_the_table_that_the_shape_comes_from() -> None:
    for name in ("efficientnet", "albert"):
        profile = load_profile(f"h100-{name}")
        shape, law = fitted_shape(profile), profile.interference
        assert law is not None
        assert shape.error < 0.08
        largest = profile.service_s[profile.application.largest.name]
        refuted = largest["7g"] / law.share("1g") / largest["1g"] - 1.0
        assert refuted > 0.4
        assert shape.throughput(1.0) == pytest.approx(1.0)
        assert shape.throughput(law.share("1g")) == pytest.approx(largest["7g"] / largest["1g"], rel=0.08)


def test_the_arrivals_are_the_artifacts_sample_scaled() -> None:
    points = published_points()
    assert len(points) == 18
    long, short = sent_arrivals(points[0]), sent_arrivals(points[1])
    assert (len(long), len(short), long[0]) == (2001, 1001, 0.0)
    np.testing.assert_allclose(short / 0.4, long[:1001])
    assert long[-1] / 2000 == pytest.approx(1.026, abs=0.002)
    assert short[-1] / 400 == pytest.approx(0.992, abs=0.002)


def test_accuracy_that_nothing_was_fitted_to_tells_that_requests_are_shared_as_predicted() -> None:
    for point in published_points():
        profile = load_profile(point.profile_name)
        runs = PointRuns(profile, point.configuration)
        mix = runs.physics.at(runs.configuration, point.rate)
        assert runs.physics.accuracy(runs.configuration, mix) == pytest.approx(point.accuracy, abs=0.0003)


def test_a_replayed_run_agrees_with_serving_one_request_after_another() -> None:
    point = next(p for p in published_points() if p.interarrival_s == 0.2)
    service = np.array([0.3, 0.5])
    free, busy_until, idle_tail, counts = [0.0, 0.0], [-1.0, -1.0], 0.0, [0, 0]
    for arrival in sent_arrivals(point):
        number = int(np.argmin(free))
        start = max(float(arrival), free[number])
        if busy_until[number] >= 0.0:
            idle_tail += min(start - busy_until[number], TAIL_S)
        free[number] = busy_until[number] = start + float(service[number])
        counts[number] += 1
    run = replayed_run(point, service)
    assert run.counts.tolist() == counts
    assert run.length_s == pytest.approx(max(free))
    assert run.tail_s == pytest.approx(idle_tail + 2 * TAIL_S)
    assert run.busy_s == pytest.approx(float(np.dot(counts, service)))


def test_energies_are_recovered_from_points_made_with_them() -> None:
    points = published_points()
    runs = [PointRuns(load_profile(p.profile_name), p.configuration).replayed(p) for p in points]
    for tail in (False, True):
        fit = fit_energies(points, runs, tail=tail)
        again = [fit.energy_j(p, run) / p.energy_j - 1.0 for p, run in zip(points, runs, strict=True)]
        np.testing.assert_allclose(again, fit.errors, atol=1e-12)
    plain, tailed = fit_energies(points, runs), fit_energies(points, runs, tail=True)
    assert np.sqrt(np.mean(tailed.errors**2)) < 0.5 * np.sqrt(np.mean(plain.errors**2))


def test_busy_neighbours_on_the_host_slow_service_and_idle_ones_do_not() -> None:
    service = np.array([0.4, 0.4])
    assert host_slowed(service, 0.2, 1e-9) == pytest.approx(service)
    np.testing.assert_allclose(host_slowed(service, 0.2, 100.0), 1.2 * service)
    point = published_points()[1]
    sent = sent_arrivals(point)
    assert sample_p95_ms(sent, 1.1 * service, 0.0) > sample_p95_ms(sent, service, 0.0)


def test_all_36_numbers_are_predicted_and_most_come_close(predicted: list[PredictedPoint]) -> None:
    assert [item.point for item in predicted] == list(published_points())
    offs = np.abs([item.off("event", name) for item in predicted for name in ("energy_j", "p95_ms")])
    assert len(offs) == 36
    assert np.isfinite(offs).all()
    assert (offs <= 0.10).sum() >= 33
    assert (offs <= 0.05).sum() >= 22
    for item in predicted:
        assert item.event.low.p95_ms <= item.event.median.p95_ms <= item.event.high.p95_ms
        assert item.event.low.energy_j <= item.event.median.energy_j <= item.event.high.energy_j


def test_without_overload_both_fidelities_agree(predicted: list[PredictedPoint]) -> None:
    for item in predicted:
        assert item.table.energy_j == pytest.approx(item.event.median.energy_j, rel=0.02)
        runs = PointRuns(load_profile(item.point.profile_name), item.point.configuration)
        if item.point.rate < 0.9 * runs.physics.capacity(runs.configuration):
            assert item.table.p95_ms == pytest.approx(item.event.median.p95_ms, rel=0.06)


def test_every_miss_and_nothing_else_is_named(predicted: list[PredictedPoint]) -> None:
    misses = find_misses(predicted)
    named = {(miss.point, miss.quantity, miss.fidelity) for miss in misses}
    for item in predicted:
        for quantity in ("energy_j", "p95_ms"):
            for fidelity in ("event", "table"):
                off = item.off(fidelity, quantity)  # type: ignore[arg-type]
                assert ((item.point, quantity, fidelity) in named) == (abs(off) > TOLERANCE)
    for miss in misses:
        assert miss.assumption == ASSUMPTIONS[miss.run]
        assert miss.run in ("event", "arrivals", "tail" if miss.quantity == "energy_j" else "busy_host")
        assert miss.fidelity == "table" or miss.run != "event"
        if miss.explained and not miss.by_chance:
            assert abs(miss.off_there) <= TOLERANCE


def test_23_seconds_are_a_run_that_ended_and_no_steady_state(predicted: list[PredictedPoint]) -> None:
    item = next(item for item in predicted if item.point.p95_ms > 20_000)
    runs = PointRuns(load_profile(item.point.profile_name), "BASE")
    assert item.point.rate > runs.physics.capacity(runs.configuration)
    assert item.event.low.p95_ms < item.point.p95_ms < item.event.high.p95_ms
    assert item.arrivals.p95_ms == pytest.approx(item.point.p95_ms, rel=TOLERANCE)
    longer = runs.at_event(item.point.rate, 4 * item.point.requests * item.point.interarrival_s, seeds=4)
    assert longer.median.p95_ms > 2.0 * item.event.median.p95_ms


@pytest.mark.parametrize("application", APPLICATIONS)
def test_base_and_static_are_as_the_artifact_configured_them(application: str) -> None:
    profile = load_profile(f"a100-{application}")
    base, static = configuration(profile, "BASE"), configuration(profile, "STATIC")
    assert base.graph == {(profile.application.largest.name, "7g"): 2}
    assert static.graph == {(variant, name): 2 for name, variant in STATIC_PAIRS[application].items()}
    shape = shape_for(application)
    assert shape.work.keys() == profile.application.variants.keys()
