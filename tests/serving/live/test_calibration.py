"""A card that differs from its profile is found out; the requests sent are what a prediction meets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import load_profile
from clover_rl.errors import ServingError
from clover_rl.serving.live.calibration import PairTime, StageResult, calibrated, stages
from clover_rl.serving.live.plan import spaced
from clover_rl.simulation.physics import Physics


def other_card() -> Profile:
    """Idles 20 W higher, takes 5 % more energy and 0.4 ms more for each request."""
    profile = load_profile("h100-efficientnet-resident")
    return replace(
        profile,
        service_s={v: {p: s + 0.0004 for p, s in row.items()} for v, row in profile.service_s.items()},
        energy_j={v: {p: 1.05 * e for p, e in row.items()} for v, row in profile.energy_j.items()},
        power=replace(profile.power, idle_w=146.5),
    )


def results(card: Profile) -> list[StageResult]:
    physics, found = Physics(card), []
    for stage in stages(card, 1):
        point = physics.at(stage.configuration, stage.rate)
        pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for item, rate, s in zip(stage.configuration.instances, point.rates, point.service_s, strict=True):
            pairs.setdefault((item.variant, item.placement.slice), []).append((float(rate), float(s)))
        rows = [
            PairTime(*key, sum(r for r, _ in each), 50, 1000.0 * each[0][1], 0.001)
            for key, each in pairs.items()
        ]
        watts = physics.power_w(stage.configuration, point)
        found.append(StageResult(str(stage.configuration), watts, tuple(rows), stage.counts))
    return found


def test_stages_have_every_pair_and_hold_what_mig_allows() -> None:
    profile = load_profile("h100-efficientnet-resident")
    seen = set()
    for stage in stages(profile, 1):
        stage.configuration.check(profile)
        seen |= {(item.variant, item.placement.slice) for item in stage.configuration.instances}
    assert seen == {(variant, piece) for variant, row in profile.service_s.items() for piece in row}


def test_a_calibration_finds_what_the_card_does() -> None:
    shipped, card = load_profile("h100-efficientnet-resident"), other_card()
    found = calibrated(shipped, results(card), 1)
    assert found.profile.power.idle_w == pytest.approx(146.5, rel=0.01)
    for variant, row in card.service_s.items():
        assert found.profile.service_s[variant] == pytest.approx(row, rel=0.02)
        assert found.profile.energy_j[variant]["7g"] == pytest.approx(card.energy_j[variant]["7g"], rel=0.02)
    assert max(map(abs, found.power_errors)) < 0.01
    assert found.profile.jitter_cv == 0.0


def test_a_stage_without_a_request_is_refused() -> None:
    shipped = load_profile("h100-efficientnet-resident")
    base = str(ClusterConfiguration.parse("7g@0:B7", shipped))
    with pytest.raises(ServingError, match="served nothing"):
        calibrated(shipped, [StageResult(base, 120.0, ())], 1)


def test_requests_sent_together_reach_the_queue_one_after_the_other() -> None:
    assert spaced(np.array([1.0, 1.0, 1.0, 2.0]), 0.1) == pytest.approx([1.0, 1.1, 1.2, 2.0])
    assert StageResult.from_dict(results(other_card())[0].to_dict()) == results(other_card())[0]
