"""GPU models: the shipped cards agree with NVIDIA's table and with what NVML said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clover_rl.cluster.gpu import COMPUTE_SLICES, MEMORY_SLICES, gpu_model, gpu_models
from clover_rl.errors import InputError

STARTS = {
    "7g": (0,),
    "4g": (0,),
    "3g": (0, 4),
    "2g": (0, 2, 4),
    "1g": (0, 1, 2, 3, 4, 5, 6),
    "1g.dm": (0, 2, 4, 6),
    "1g.me": (0, 1, 2, 3, 4, 5, 6),
}
PROFILE_IDS = {"7g": 0, "4g": 5, "3g": 9, "2g": 14, "1g": 19, "1g.dm": 15, "1g.me": 20}


@pytest.mark.parametrize("name", ["a100-40gb", "a100-80gb", "h100-80gb", "h200-141gb"])
def test_every_card_has_the_same_geometry(name: str) -> None:
    slices = gpu_model(name).slices
    assert {key: item.starts for key, item in slices.items()} == STARTS
    assert {key: item.profile_id for key, item in slices.items()} == PROFILE_IDS
    assert {key: (item.compute, item.size) for key, item in slices.items()} == {
        "7g": (7, 8),
        "4g": (4, 4),
        "3g": (3, 4),
        "2g": (2, 2),
        "1g": (1, 1),
        "1g.dm": (1, 2),
        "1g.me": (1, 1),
    }


@pytest.mark.parametrize("model", gpu_models().values(), ids=lambda model: model.name)
def test_slices_fit_their_card(model) -> None:  # type: ignore[no-untyped-def]
    whole = model.slices["7g"]
    for item in model.slices.values():
        assert item.compute <= COMPUTE_SLICES
        assert max(item.starts) + item.size <= MEMORY_SLICES
        assert 0 < item.sms <= model.sms
        assert 0 < item.memory_mib <= whole.memory_mib


def test_the_h100_has_what_nvml_reported() -> None:
    slices = gpu_model("h100-80gb").slices
    assert {name: item.sms for name, item in slices.items()} == {
        "7g": 132,
        "4g": 64,
        "3g": 60,
        "2g": 32,
        "1g": 16,
        "1g.dm": 26,
        "1g.me": 16,
    }
    assert {name: item.memory_mib for name, item in slices.items()} == {
        "7g": 81152,
        "4g": 40448,
        "3g": 40448,
        "2g": 20096,
        "1g": 9984,
        "1g.dm": 20096,
        "1g.me": 9984,
    }


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("a100-40gb", ["7g.40gb", "4g.20gb", "3g.20gb", "2g.10gb", "1g.5gb", "1g.10gb", "1g.5gb+me"]),
        ("a100-80gb", ["7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.10gb", "1g.20gb", "1g.10gb+me"]),
        ("h100-80gb", ["7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.10gb", "1g.20gb", "1g.10gb+me"]),
        ("h200-141gb", ["7g.141gb", "4g.71gb", "3g.71gb", "2g.35gb", "1g.18gb", "1g.35gb", "1g.18gb+me"]),
    ],
)
def test_slices_carry_nvidias_names(model: str, names: list[str]) -> None:
    assert [item.nvml_name for item in gpu_model(model).slices.values()] == names


@pytest.mark.parametrize("model", gpu_models().values(), ids=lambda model: model.name)
def test_media_extensions_are_a_1g_in_everything_else(model) -> None:  # type: ignore[no-untyped-def]
    plain, media = model.slices["1g"], model.slices["1g.me"]
    assert media == replace(
        plain, name="1g.me", profile_id=20, nvml_name=f"{plain.nvml_name}+me", optional=True, media=True
    )
    assert [item.name for item in model.slices.values() if item.media] == ["1g.me"]


def test_double_memory_and_media_slices_are_left_out_unless_asked_for() -> None:
    assert [item.name for item in gpu_model("h100-80gb").default_slices] == ["7g", "4g", "3g", "2g", "1g"]


def test_every_memory_size_says_where_it_comes_from() -> None:
    kinds = {name: model.memory_provenance.kind for name, model in gpu_models().items()}
    assert kinds["h100-80gb"] == "measured"
    assert set(kinds.values()) <= {"measured", "published", "nominal"}


def test_models_serve_as_keys() -> None:
    assert {gpu_model("h100-80gb"): 1}[gpu_model("h100-80gb")] == 1


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown GPU model `v100`; use one of a100-40gb, "):
        gpu_model("v100")


def test_an_unknown_slice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"h100-80gb: unknown slice type `5g`; use one of 7g, 4g"):
        gpu_model("h100-80gb").slice_type("5g")
