"""Measuring a profile: bench, plan, resuming, and laws recovered from measurements that follow them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clover_rl.cluster.application import TensorSpec
from clover_rl.cluster.gpu import gpu_model
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_application, load_profile
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.measuring.bench import energy_after
from clover_rl.serving.measuring.bench_process import Job, example_arrays, served
from clover_rl.serving.measuring.campaign import entry_points, layout_of
from clover_rl.serving.measuring.fitted import fitted_profile, write_rows
from clover_rl.serving.measuring.plan import FITTED, KEPT_OUT, STAGES, planned_tests
from clover_rl.serving.measuring.profile_yaml import profile_yaml

H100 = gpu_model("h100-80gb")
VARIANTS = ("B1", "B3", "B5", "B7")


class Model:
    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def infer(self, *arrays: Any) -> None:
        self.calls += 1
        time.sleep(self.seconds)


def test_a_job_back_to_back_fills_its_time_and_an_open_one_keeps_its_rate() -> None:
    now = time.perf_counter()
    model = Model(0.002)
    done = served(model, [], Job("x", None, 1, now, now + 0.1))
    assert model.calls == len(done) > 5
    assert all(now <= a < b for a, b in done)
    now = time.perf_counter()
    done = served(Model(0.0), [], Job("x", 400.0, 1, now, now + 0.5))
    assert 140 < len(done) < 270


def test_inputs_are_random_within_the_signature() -> None:
    images, tokens = example_arrays([TensorSpec("a", "UINT8", (2, 3)), TensorSpec("b", "INT64", (1, 50))])
    assert images.dtype == np.uint8
    assert tokens.max() < 30_000
    assert len(np.unique(tokens)) > 25


def test_energy_is_read_at_a_step_of_the_counter_and_a_still_one_refused() -> None:
    class Counter:
        def __init__(self, every_s: float) -> None:
            self.every_s = every_s

        def counter_j(self) -> float:
            return time.perf_counter() // self.every_s

    joules, at = energy_after(Counter(0.1), time.perf_counter())
    assert at - joules * 0.1 < 0.05
    with pytest.raises(ServingError, match="counter"):
        energy_after(Counter(1e9), time.perf_counter() - 1.9)


def test_the_plan_measures_every_pair_alone_and_keeps_ten_mixed_configurations_out() -> None:
    alone = {
        (stage.slices[index], variant)
        for stage in STAGES
        for test in planned_tests(stage, VARIANTS)
        if test.name == "alone"
        for index, variant in test.variants.items()
    }
    assert len(alone) == 20
    kept = [
        (stage.name, tuple(test.variants.values()))
        for stage in STAGES
        if stage.name in KEPT_OUT
        for test in planned_tests(stage, VARIANTS)
        if test.name.startswith("mix") and test.level is None
    ]
    assert len(set(kept)) == len(kept) == 10
    assert all(len(set(variants)) > 1 for _, variants in kept)
    assert not set(FITTED) & set(KEPT_OUT)
    for stage in STAGES:
        assert [item.slice for item in layout_of(H100, stage.slices)] == list(stage.slices)


def test_an_application_without_entry_points_is_refused() -> None:
    assert entry_points(load_application("rtdetr"))["r50"] == "clover-rtdetr-r50"
    with pytest.raises(InputError, match="no entry point"):
        entry_points(load_application("digits"))


def synthetic(profile: Profile) -> dict[str, Any]:
    """Measurements of a card that obeys a profile's laws exactly."""
    law, power = profile.interference, profile.power
    assert law is not None
    stages: dict[str, Any] = {}
    for stage in STAGES:
        blank = {"layout": stage.name, "gpu_w": f"{power.idle_w}", "offered_per_s": ""}
        rows: list[dict[str, str]] = [blank | dict.fromkeys(("slice", "variant"), "") | {"test": "idle"}]
        rows[0] |= dict.fromkeys(("served_per_s", "mean_ms", "p50_ms", "p95_ms", "utilisation"), "")
        for test in planned_tests(stage, VARIANTS):
            busy = {i: (stage.slices[i], v, test.level or 1.0) for i, v in test.variants.items()}
            watts, found = power.idle_w, []
            for i, (piece, variant, level) in busy.items():
                slowdown = 1.0 + law.sensitivity_on(variant, piece) * sum(
                    other_level * law.pressure_on(other, other_piece)
                    for j, (other_piece, other, other_level) in busy.items()
                    if j != i
                )
                mean_s = profile.service_s[variant][piece] * slowdown
                watts += level / mean_s * profile.energy_j[variant][piece] * slowdown**power.slowdown_exponent
                ms = f"{1000.0 * mean_s:.6f}"
                found.append(
                    blank
                    | {"test": test.name, "slice": piece, "variant": variant, "utilisation": f"{level}"}
                    | {"served_per_s": f"{level / mean_s:.6f}", "mean_ms": ms, "p50_ms": ms, "p95_ms": ms}
                )
            rows += [row | {"gpu_w": f"{min(watts, power.limit_w):.4f}"} for row in found]
        sms = [law.sms[name] for name in stage.slices]
        stages[stage.name] = {"rows": rows, "sms": sms, "create_s": [0.01], "destroy_s": [0.001]}
    loads = {v: {"load_s": 8.0, "memory_mib": profile.memory_mib[v]} for v in VARIANTS}
    card = {"name": "NVIDIA H100 80GB HBM3", "torch": "2.11", "driver": "580"}
    return {"card": card, "parked_w": 72.0, "limit_w": 700.0, "stages": stages, "loads": loads}


def test_a_profile_is_recovered_from_measurements_that_follow_it(tmp_path: Path) -> None:
    shipped = load_profile("h100-efficientnet")
    measured = json.loads(json.dumps(synthetic(shipped)))
    rows = tmp_path / "measurements.csv"
    write_rows(measured, rows)
    fitted = fitted_profile(measured, rows, shipped.application, H100, "h100-again")
    assert fitted.kept_out.tests == 20
    assert fitted.kept_out.slowdown_error_p95 < 0.02
    assert fitted.kept_out.power_error_p95 < 0.02
    assert max(map(abs, fitted.duty)) < 0.001
    text = profile_yaml(
        fitted, application="efficientnet", card=measured["card"], command="clover-rl ...", date="2026-11-24"
    )
    path = tmp_path / "h100-again.yaml"
    path.write_text(text)
    again = load_profile(str(path))
    assert again.service_s["B7"]["1g"] == pytest.approx(shipped.service_s["B7"]["1g"], rel=1e-3)
    assert again.energy_j["B1"]["7g"] == pytest.approx(shipped.energy_j["B1"]["7g"], rel=0.01)
    assert again.provenance["interference"].kind == "measured"
    assert again.power.parked_w == 72.0
