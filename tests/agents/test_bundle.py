"""A bundle does what the trained model does, and anything else is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sb3_contrib import MaskablePPO

from clover_rl.agents.bundle import MANIFEST, Bundle, Parity, _packed, open_bundle, pack_bundle
from clover_rl.agents.network import PolicyNetwork, check_operators
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.runs import run_controller
from clover_rl.agents.train.export import export_model, export_run, record_parity
from clover_rl.agents.windows import generated_windows
from clover_rl.cluster.choices import Catalogue
from clover_rl.control.state import ControlState
from clover_rl.envs.scenario import Scenario, load_scenario
from clover_rl.errors import BundleError, CloverError, InputError
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


@settings(max_examples=150)
@given(position=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_a_flipped_byte_is_refused(bundle_path: Path, position: float, mask: int) -> None:
    content = bytearray(bundle_path.read_bytes())
    content[int(position * len(content))] ^= mask
    with pytest.raises(BundleError):
        open_bundle(bytes(content))


def test_so_is_every_byte_that_only_the_zip_format_needs(bundle_path: Path) -> None:
    content = bundle_path.read_bytes()
    with zipfile.ZipFile(bundle_path) as archive:
        places = [(item.header_offset, 30 + len(item.filename)) for item in archive.infolist()]
        places.append((archive.start_dir, len(content) - archive.start_dir))
    for start, length in places:
        for position in range(start, start + length):
            for mask in (0x01, 0xFF):
                flipped = bytearray(content)
                flipped[position] ^= mask
                with pytest.raises(BundleError):
                    open_bundle(bytes(flipped))
    for changed in (content[:-1], content + b"\0", b"\0" + content, b""):
        with pytest.raises(BundleError):
            open_bundle(changed)


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sealed(path: Path, **changed: bytes) -> bytes:
    """A bundle with other members and right hashes, as somebody who means harm would make it."""
    names = {"manifest": MANIFEST, "network": "policy.onnx", "parity": "parity.npz"}
    members = members_of(path) | {names[key]: content for key, content in changed.items()}
    try:
        manifest = json.loads(members[MANIFEST])
    except (ValueError, RecursionError):
        return _packed(members)
    if isinstance(manifest, dict):
        hashes = {name: hashlib.sha256(members[name]).hexdigest() for name in ("policy.onnx", "parity.npz")}
        members[MANIFEST] = json.dumps(manifest | {"members": hashes}).encode()
    return _packed(members)


def put_in_charge(content: bytes, model: ClusterModel) -> None:
    """All that a server does with an upload."""
    bundle = open_bundle(content)
    PolicyController(bundle, model)
    bundle.replay()


def test_members_sealed_again_unchanged_are_a_bundle(bundle_path: Path, small_model: ClusterModel) -> None:
    put_in_charge(sealed(bundle_path), small_model)


@pytest.mark.parametrize("text", ["[]", "1", "null", "{}", "[" * 100_000, "\xff", '{"format": 1}'])
def test_a_manifest_that_is_none_is_refused(bundle_path: Path, text: str) -> None:
    with pytest.raises(BundleError):
        open_bundle(sealed(bundle_path, manifest=text.encode("latin-1")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(data=st.data())
def test_any_value_in_a_manifest_is_refused_with_a_sentence_or_harmless(
    bundle_path: Path, small_model: ClusterModel, data: st.DataObject
) -> None:
    manifest = json.loads(members_of(bundle_path)[MANIFEST])
    place = manifest
    while True:  # down to any depth
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner) or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(json_values)
    content = sealed(bundle_path, manifest=json.dumps(manifest).encode())
    try:
        put_in_charge(content, small_model)
    except CloverError:
        return
    assert isinstance(open_bundle(content).name, str)


def arrays_as_npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("observations", lambda a: a[:5]),
        ("observations", lambda a: a[:, :-1]),
        ("observations", lambda a: a * np.float32(np.nan)),
        ("observations", lambda a: a.astype(np.float64)),
        ("masks", lambda a: np.zeros_like(a)),
        ("masks", lambda a: a[None]),
        ("logits", lambda a: a[:, :1]),
        ("logits", lambda a: np.full_like(a, np.inf)),
        ("actions", lambda a: a[:0]),
        ("actions", lambda a: a + 1_000),
        ("actions", lambda a: a - 1_000),
        ("actions", lambda a: np.array("x")),
        ("actions", lambda a: np.array([{}], object)),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    bundle_path: Path, name: str, change: Callable[[Any], Any]
) -> None:
    with np.load(io.BytesIO(members_of(bundle_path)["parity.npz"])) as file:
        arrays = dict(file)
    with pytest.raises(BundleError):
        open_bundle(sealed(bundle_path, parity=arrays_as_npz(arrays | {name: change(arrays[name])})))


def test_a_bundle_without_vectors_proves_nothing_and_is_refused(bundle_path: Path) -> None:
    with np.load(io.BytesIO(members_of(bundle_path)["parity.npz"])) as file:
        none = {name: array[:0] for name, array in file.items()}
        missing = {name: array for name, array in file.items() if name != "masks"}
    for arrays in (none, missing):
        with pytest.raises(BundleError):
            open_bundle(sealed(bundle_path, parity=arrays_as_npz(arrays)))


def test_an_array_that_claims_to_be_huge_is_refused(bundle_path: Path) -> None:
    header, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 100)}
    )
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("observations.npy", header.getvalue())
    with pytest.raises(BundleError):
        open_bundle(sealed(bundle_path, parity=buffer.getvalue()))


def test_a_network_with_other_inputs_or_outputs_is_refused(
    bundle_path: Path, small_model: ClusterModel
) -> None:
    def renamed(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = "state"
        for node in model.graph.node:
            node.input[:] = ["state" if name == "observation" else name for name in node.input]

    def two_outputs(model: onnx.ModelProto) -> None:
        hidden = model.graph.node[0].output[0]
        model.graph.output.append(helper.make_tensor_value_info(hidden, TensorProto.FLOAT, None))

    def no_outputs(model: onnx.ModelProto) -> None:
        del model.graph.output[:]

    for change in (renamed, two_outputs, no_outputs):
        model = onnx.load_from_string(members_of(bundle_path)["policy.onnx"])
        change(model)
        with pytest.raises(BundleError, match=r"does not turn|cannot be loaded"):
            put_in_charge(sealed(bundle_path, network=model.SerializeToString()), small_model)


def test_a_bundle_that_observes_something_else_is_refused(
    bundle_path: Path, small_model: ClusterModel
) -> None:
    manifest = json.loads(members_of(bundle_path)[MANIFEST])
    slots = manifest["observation"]["slots"]
    slots[0], slots[1] = slots[1], slots[0]
    with pytest.raises(BundleError, match="observes other quantities"):
        put_in_charge(sealed(bundle_path, manifest=json.dumps(manifest).encode()), small_model)


def test_another_format_extra_members_and_no_zip_are_refused(bundle_path: Path) -> None:
    members = members_of(bundle_path)
    manifest = json.loads(members["manifest.json"])
    newer = members | {"manifest.json": json.dumps(manifest | {"format": 99}).encode()}
    with pytest.raises(BundleError, match="has format 99"):
        open_bundle(packed(newer))
    with pytest.raises(BundleError, match="bytes that export did not write"):
        open_bundle(packed(members))
    manifest["actions"]["catalogue"].reverse()
    shuffled = sealed(bundle_path, manifest=json.dumps(manifest).encode())
    with pytest.raises(BundleError, match="not what its hash says"):
        open_bundle(shuffled)
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


def external(name: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def test_no_part_of_a_network_may_lie_in_another_file_or_hide_a_graph() -> None:
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    graph = onnx.load_from_string(network_of("Tanh")).graph

    def in_initializer(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(external("w"))

    def in_constant(model: onnx.ModelProto) -> None:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=external("w")))

    def in_sparse(model: onnx.ModelProto) -> None:
        sparse = helper.make_sparse_tensor(external("w"), indices, [2])
        model.graph.sparse_initializer.append(sparse)

    def in_graph(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute("body", graph))

    def in_function(model: onnx.ModelProto) -> None:
        node = helper.make_node("Tanh", ["x"], ["y"])
        model.functions.append(helper.make_function("f", "g", ["x"], ["y"], [node], []))

    for hide in (in_initializer, in_constant, in_sparse, in_graph, in_function):
        model = onnx.load_from_string(network_of("Tanh"))
        hide(model)
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
    worst = np.where(parity.masks, parity.logits, np.inf).argmin(axis=-1)
    swapped = Parity(parity.observations, parity.masks, parity.logits, worst)
    with pytest.raises(BundleError, match="another action"):
        pack_bundle(path, manifest, bundle.network, swapped)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_that_cannot_be_written_is_one_sentence_and_leaves_nothing(
    bundle: Bundle, tmp_path: Path
) -> None:
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("format", "members")}
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "absent" / "x.clover", tmp_path / "folder"):
        with pytest.raises(InputError, match="cannot be written"):
            pack_bundle(place, manifest, bundle.network, bundle.parity)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_same_members_make_the_same_file(bundle: Bundle, bundle_path: Path, tmp_path: Path) -> None:
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("format", "members")}
    again = pack_bundle(tmp_path / "again.clover", manifest, bundle.network, bundle.parity)
    assert again.parity.actions.tolist() == bundle.parity.actions.tolist()
    assert (tmp_path / "again.clover").read_bytes() == _packed(members_of(tmp_path / "again.clover"))
    twice = pack_bundle(tmp_path / "twice.clover", manifest, bundle.network, bundle.parity)
    assert twice.sha256 == again.sha256


def test_no_member_holds_a_pickle_or_a_path_of_this_machine(bundle_path: Path) -> None:
    for name, content in members_of(bundle_path).items():
        assert b"site-packages" not in content, name
        for place in (Path(__file__).resolve().parents[2], bundle_path.parent, Path.home()):
            assert str(place).encode() not in content, name
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


@pytest.mark.parametrize("name", ["training.json", "model.zip", "scenario.yaml"])
@pytest.mark.parametrize("content", [b"{", b"", b"[]"])
def test_a_damaged_run_folder_is_one_sentence(run: Path, tmp_path: Path, name: str, content: bytes) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken, ignore=shutil.ignore_patterns("tensorboard", "*.clover"))
    (broken / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(broken / name))):
        export_run(broken, tmp_path / "x.clover")
    (broken / name).unlink()
    with pytest.raises(InputError, match=r"no run folder|cannot be read"):
        export_run(broken, tmp_path / "x.clover")
    assert not (tmp_path / "x.clover").exists()
