"""Applications: variants from small to large, accuracy weighted by who answered."""

from __future__ import annotations

import pytest

from clover_rl.cluster.profile import Profile
from clover_rl.cluster.profile_file import application_names, load_application
from clover_rl.errors import InputError


def test_the_largest_variant_is_the_most_accurate(h100: Profile) -> None:
    application = h100.application
    assert (application.smallest.name, application.largest.name) == ("B1", "B7")
    assert application.largest.accuracy == max(v.accuracy for v in application.variants.values())


def test_accuracy_is_weighted_by_answered_requests(h100: Profile) -> None:
    application = h100.application
    assert application.accuracy_of({"B1": 1, "B7": 3}) == pytest.approx((0.78382 + 3 * 0.84582) / 4)
    assert application.accuracy_of({"B3": 10}) == pytest.approx(0.81528)


@pytest.mark.parametrize("answered", [{}, {"B1": 0}])
def test_accuracy_is_base_when_nothing_was_answered(answered: dict[str, int], h100: Profile) -> None:
    assert h100.application.accuracy_of(answered) == h100.application.largest.accuracy


def test_an_unknown_variant_is_refused_with_the_known_ones(h100: Profile) -> None:
    with pytest.raises(InputError, match="efficientnet: unknown variant `B2`; use one of B1, B3, B5, B7"):
        h100.application.variant("B2")


@pytest.mark.parametrize("name", application_names())
def test_every_shipped_application_loads_with_its_sources(name: str) -> None:
    application = load_application(name)
    assert application.name == name
    for key, variant in application.variants.items():
        assert variant.name == key
        assert 0 < variant.accuracy <= 1
        assert variant.accuracy_provenance.source
