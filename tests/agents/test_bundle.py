"""A bundle does what the trained model does, and anything else is refused."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sb3_contrib import MaskablePPO

from clover_rl.agents.bundle import (
    Bundle,
    Parity,
    PolicyNetwork,
    check_operators,
    open_bundle,
    pack_bundle,
)
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.runs import run_controller
from clover_rl.agents.train.export import export_model, export_run, record_parity
from clover_rl.agents.windows import generated_windows
from clover_rl.cluster.choices import Catalogue
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import BundleError, InputError
from clover_rl.simulation.model import ClusterModel


def test_onnx_runtime_chooses_as_the_trained_model_wherever_it_is_no_near_tie(
    run: Path, bundle: Bundle, small_scenario: Scenario, small_model: ClusterModel
) -> None:
    model = MaskablePPO.load(run / "model.zip", device="cpu")
    fresh = record_parity(model, small_scenario, small_model, seed=77)
    assert len(fresh.observations) == 1000
    found = PolicyNetwork(bundle.network).logits(fresh.observations, fresh.masks)
    actions, _ = model.predict(fresh.observations, deterministic=True, action_masks=fresh.masks)
    clear = fresh.margins() > fresh.tolerance()
    assert clear.mean() > 0.9
    assert (found.argmax(axis=-1) == actions)[clear].all()


def test_replay_counts_near_ties_and_reports_the_largest_difference(bundle: Bundle) -> None:
    result = bundle.replay()
    assert result.vectors == 1000
    assert 0 <= result.near_ties < 100
    assert result.largest_difference <= bundle.parity.tolerance()


def test_a_policy_in_the_loop_decides_as_the_trained_model(
    run: Path, bundle: Bundle, small_scenario: Scenario, small_model: ClusterModel
) -> None:
    model = MaskablePPO.load(run / "model.zip", device="cpu")
    (window,) = generated_windows(small_scenario, small_model, count=1, days=0.1, split="test", seed=1)
    controller = PolicyController(bundle, small_model)
    seen: list[tuple[int, int]] = []
    decide = controller.decide

    def both(state: ControlState):  # type: ignore[no-untyped-def]
        decision = decide(state)
        observation = controller.codec.encode(state)
        masks = controller.actions.masks(state)
        action, _ = model.predict(observation, deterministic=True, action_masks=masks)
        seen.append((controller.actions.encode(decision.configuration), int(action)))
        return decision

    controller.decide = both  # type: ignore[method-assign]
    run_controller(small_scenario, small_model, controller, window.signals, steps=20, w=0.1, seed=0)
    assert len(seen) == 20
    assert sum(a == b for a, b in seen) >= 19  # a near tie may fall either way


@settings(max_examples=120)
@given(position=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_changes_nothing(bundle_path: Path, position: float, mask: int) -> None:
    content = bytearray(bundle_path.read_bytes())
    content[int(position * len(content))] ^= mask
    try:
        opened = open_bundle(bytes(content))
    except BundleError:
        return
    original = open_bundle(bundle_path)  # some bytes of a zip file mean nothing
    assert opened.network == original.network
    assert opened.manifest == original.manifest


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_another_format_extra_members_and_no_zip_are_refused(bundle_path: Path) -> None:
    members = members_of(bundle_path)
    manifest = json.loads(members["manifest.json"])
    newer = members | {"manifest.json": json.dumps(manifest | {"format": 99}).encode()}
    with pytest.raises(BundleError, match="has format 99"):
        open_bundle(packed(newer))
    with pytest.raises(BundleError, match="does not hold exactly"):
        open_bundle(packed(members | {"more.pkl": b"x"}))
    with pytest.raises(BundleError, match="damaged or no bundle"):
        open_bundle(b"not a zip file")
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(bundle_path.with_name("absent.clover"))


def network_of(operator: str, domain: str = "") -> bytes:
    graph = helper.make_graph(
        [helper.make_node(operator, ["observation"], ["logits"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph).SerializeToString()


def test_only_plain_arithmetic_is_allowed_in_a_network() -> None:
    check_operators(network_of("Tanh"))
    for operator, domain in (("Loop", ""), ("Tanh", "com.evil"), ("NonZero", "")):
        with pytest.raises(BundleError, match="is not allowed"):
            check_operators(network_of(operator, domain))
    with pytest.raises(BundleError, match="no ONNX file"):
        check_operators(b"\xff" * 40)
    model = onnx.load_from_string(network_of("Tanh"))
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    model.graph.initializer.append(tensor)
    with pytest.raises(BundleError, match="external data"):
        check_operators(model.SerializeToString())


def test_a_bundle_for_another_cluster_is_refused_and_another_profile_only_warned_of(
    bundle: Bundle, small_model: ClusterModel
) -> None:
    assert bundle.check(small_model) == []
    fewer = replace(small_model, catalogue=Catalogue(small_model.catalogue.configurations[:-1]))
    with pytest.raises(BundleError, match="another action catalogue"):
        bundle.check(fewer)
    with pytest.raises(BundleError, match="number of GPUs"):
        bundle.check(replace(small_model, gpus=small_model.gpus + 1))
    slower = replace(small_model.profile, jitter_cv=0.1)
    (warning,) = bundle.check(replace(small_model, profile=slower))
    assert "another profile" in warning


def test_nothing_is_written_when_the_replay_fails(bundle: Bundle, tmp_path: Path) -> None:
    parity = bundle.parity
    wrong = Parity(parity.observations, parity.masks, parity.logits + 1.0, parity.actions)
    path = tmp_path / "wrong.clover"
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("format", "members")}
    with pytest.raises(BundleError, match="logits differ"):
        pack_bundle(path, manifest, bundle.network, wrong)
    swapped = Parity(parity.observations, parity.masks, parity.logits, np.roll(parity.actions, 1) * 0 - 1)
    with pytest.raises(BundleError, match="another action"):
        pack_bundle(path, manifest, bundle.network, swapped)
    assert list(tmp_path.iterdir()) == []


def test_no_member_holds_a_pickle_or_a_path_of_this_machine(bundle_path: Path) -> None:
    for name, content in members_of(bundle_path).items():
        assert b"site-packages" not in content, name
        assert str(Path(__file__).resolve().parents[2]).encode() not in content, name
    assert sorted(members_of(bundle_path)) == ["manifest.json", "parity.npz", "policy.onnx"]
    with np.load(io.BytesIO(members_of(bundle_path)["parity.npz"]), allow_pickle=False) as arrays:
        assert set(arrays.files) == {"observations", "masks", "logits", "actions"}


def test_exporting_for_another_scenario_or_from_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    model = MaskablePPO.load(run / "model.zip", device="cpu")
    other = load_scenario(Path(__file__).parents[1] / "data" / "small-scenario.yaml", gpus=1)
    with pytest.raises(InputError, match="export with the scenario"):
        export_model(model, other, tmp_path / "x.clover")
    with pytest.raises(InputError, match="no run folder"):
        export_run(tmp_path, tmp_path / "x.clover")
