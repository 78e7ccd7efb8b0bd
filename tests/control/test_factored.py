"""FactoredCodec: vectors of choices and the configurations they mean."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.choices import Catalogue, homogeneous_catalogue
from clover_rl.cluster.profile import Profile
from clover_rl.control.factored import FactoredCodec
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel


@pytest.fixture(scope="module")
def full(small_model: ClusterModel) -> Catalogue:
    return homogeneous_catalogue(small_model.profile, 2)


@pytest.fixture(scope="module")
def codec(small_model: ClusterModel, full: Catalogue) -> FactoredCodec:
    return FactoredCodec.of(small_model.profile, full)


def test_every_configuration_has_a_vector_that_means_it(codec: FactoredCodec, full: Catalogue) -> None:
    vectors = np.array([codec.encode(index) for index in range(len(full))])
    assert codec.decode(vectors).tolist() == list(range(len(full)))
    assert codec.nvec == (2, 14, 2, 2, 2, 2, 2)


def test_a_vector_says_gpus_layout_and_variants_in_words(codec: FactoredCodec, full: Catalogue) -> None:
    layout = codec.layouts.index(("4g", "2g", "1g"))
    index = int(codec.decode([1, layout, 0, 1, 0, 0, 0]))
    assert full[index].label() == "2x[4g:L 2g:S 1g:S]"
    assert codec.decode([1, layout, 1, 1, 1, 0, 0]) == index  # 7g and 3g are not in this layout


def test_a_variant_that_does_not_fit_is_no_configuration_and_masked(
    codec: FactoredCodec, small_model: ClusterModel
) -> None:
    layout = codec.layouts.index(("1g",) * 7)
    assert codec.decode([0, layout, 0, 0, 0, 0, 1]) == -1  # the large variant does not fit 1g
    masks = codec.masks_for(np.array([2]))[0]
    large_on_1g = sum(codec.nvec) - 1
    assert not masks[large_on_1g]
    assert masks.sum() == len(masks) - 2  # nor 2g


@given(data=st.data(), available=st.integers(0, 2))
def test_allowed_numbers_always_mean_a_configuration_that_fits(
    codec: FactoredCodec, full: Catalogue, data: st.DataObject, available: int
) -> None:
    masks = codec.masks_for(np.array([available]))[0]
    parts = np.split(masks, np.cumsum(codec.nvec)[:-1])
    vector = [data.draw(st.sampled_from(np.flatnonzero(part).tolist())) for part in parts]
    index = int(codec.decode(vector))
    assert index >= 0
    assert full[index].active <= max(available, 1)


@pytest.mark.parametrize(
    "wrong", [[0, 0], [0] * 8, [0.0] * 7, [2, 0, 0, 0, 0, 0, 0], [0, -1, 0, 0, 0, 0, 0], 3]
)
def test_what_is_no_vector_of_choices_is_refused(codec: FactoredCodec, wrong: object) -> None:
    with pytest.raises(InputError, match="choose each below"):
        codec.decode(wrong)  # type: ignore[arg-type]


def test_it_is_stored_as_plain_values_and_belongs_to_its_profile(
    codec: FactoredCodec, small_model: ClusterModel, full: Catalogue, h100: Profile
) -> None:
    content = json.loads(json.dumps(codec.to_dict()))
    again = FactoredCodec.from_dict(content, small_model.profile, full)
    assert np.array_equal(again.indices, codec.indices)
    with pytest.raises(InputError, match="another profile"):
        FactoredCodec.from_dict(content, h100, homogeneous_catalogue(h100, 2))
    with pytest.raises(InputError, match="is not in the catalogue"):
        codec.encode(len(full))


def test_a_slice_that_no_variant_fits_leaves_layouts_out(small_model: ClusterModel) -> None:
    profile = small_model.profile
    service = {v: {s: t for s, t in row.items() if s != "1g"} for v, row in profile.service_s.items()}
    narrow = replace(profile, service_s=service)
    made = FactoredCodec.of(narrow, homogeneous_catalogue(narrow, 2))
    masks = made.masks_for(np.array([2]))[0]
    layouts = masks[2 : 2 + len(made.layouts)]
    assert [bool(x) for x in layouts] == ["1g" not in layout for layout in made.layouts]
