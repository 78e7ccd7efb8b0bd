"""One bundle, byte for byte, decides on emulated slices, on MIG's (a stand-in's) and on real MPS ones."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import grpc
import pytest

from clover_rl.applications.digits import load_test_set
from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.protocol import inference_pb2_grpc as rpc
from tests.serving.partition.rig import status, variables
from tests.serving.server_process import ServerProcess


def served_by(server: ServerProcess, bundle: Path) -> dict[str, dict[str, str]]:
    """Have the bundle decide under load; the environments of the slices it chose."""
    images, _ = load_test_set()
    with grpc.insecure_channel(server.address) as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        for number in range(60):  # for three seconds and more, a decision of the bundle each second
            request = pb.ModelInferRequest(model_name="digits", raw_input_contents=[images[number].tobytes()])
            request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
            # a single card that is cut anew has no instance for a moment: the request waits
            assert stub.ModelInfer(request, timeout=60.0).parameters["variant"].string_param
            time.sleep(0.05)
    found = status(server)
    assert found["controller"] == "policy"
    assert found["bundle_sha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()
    deadline = time.monotonic() + 40.0
    while not (slices := variables(server)) and time.monotonic() < deadline:
        time.sleep(0.1)  # a single card that is cut anew has no instance for a moment
    assert slices
    assert server.terminate() == 0
    return slices


def test_a_bundle_decides_on_emulated_slices(
    scenario: Path, bundle: Path, servers: list[ServerProcess], tmp_path: Path
) -> None:
    servers.append(server := ServerProcess(scenario, tmp_path / "emulated", f"--controller={bundle}"))
    slices = served_by(server, bundle)
    assert {found["CUDA_VISIBLE_DEVICES"] for found in slices.values()} == {""}


def test_mig_fake_the_same_bundle_decides_on_mig_slices(
    scenario: Path, bundle: Path, cards: FakeNvml, servers: list[ServerProcess], tmp_path: Path
) -> None:
    options = (f"--controller={bundle}", "--partition=mig", "--devices=1")
    servers.append(server := ServerProcess(scenario, tmp_path / "mig", *options))
    slices = served_by(server, bundle)
    assert all(found["CUDA_VISIBLE_DEVICES"].startswith("MIG-") for found in slices.values())


@pytest.mark.gpu
def test_the_same_bundle_decides_on_mps_slices(
    scenario: Path, bundle: Path, servers: list[ServerProcess], tmp_path: Path, mps_device: str
) -> None:
    options = (f"--controller={bundle}", "--partition=mps", f"--devices={mps_device}")
    servers.append(server := ServerProcess(scenario, tmp_path / "mps", *options))
    slices = served_by(server, bundle)
    for name, found in slices.items():
        assert found["CUDA_VISIBLE_DEVICES"].startswith("GPU-")
        whole = name.split("/")[-1].startswith("7g")
        assert (found["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "100") is whole
