"""Protocol: wire-compatible with existing clients, and able to live in one interpreter with them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import service_pb2 as theirs

from clover_rl.serving.protocol import inference_pb2 as ours
from clover_rl.serving.protocol.generate import generate
from clover_rl.serving.protocol.pool import POOL

OURS = ours.DESCRIPTOR.message_types_by_name
SERVICE = "GRPCInferenceService"


def counterpart(descriptor: Descriptor) -> Descriptor:
    pool = theirs.DESCRIPTOR.pool
    return pool.FindMessageTypeByName(descriptor.full_name)


def every_message(descriptors: list[Descriptor]) -> list[Descriptor]:
    return [d for top in descriptors for d in (top, *every_message(list(top.nested_types)))]


EVERY_MESSAGE = [
    message for message in every_message(list(OURS.values())) if message.name != "PropertiesEntry"
]


@pytest.mark.parametrize("mine", EVERY_MESSAGE, ids=lambda d: d.full_name)
def test_every_field_has_the_number_and_type_of_the_reference(mine: Descriptor) -> None:
    other = counterpart(mine).fields_by_name
    for field in mine.fields:
        if field.full_name == "inference.ModelMetadataResponse.properties":
            assert field.number == 6  # KServe's; the reference client does not know it
            continue
        reference = other[field.name]
        assert (field.number, field.type, field.is_repeated) == (
            reference.number,
            reference.type,
            reference.is_repeated,
        ), field.full_name
        if field.message_type is not None:
            assert field.message_type.full_name == reference.message_type.full_name


def test_enumerations_have_the_numbers_of_the_reference() -> None:
    pool = theirs.DESCRIPTOR.pool
    for name in ("inference.DataType", "inference.ModelInput.Format"):
        mine, reference = POOL.FindEnumTypeByName(name), pool.FindEnumTypeByName(name)
        assert {v.name: v.number for v in mine.values} == {
            v.name: v.number for v in reference.values if v.name in mine.values_by_name
        }


def test_methods_stream_where_the_reference_streams() -> None:
    mine = POOL.FindServiceByName(f"inference.{SERVICE}")
    reference = theirs.DESCRIPTOR.services_by_name[SERVICE]
    for method in mine.methods:
        other = reference.methods_by_name[method.name]
        assert (method.client_streaming, method.server_streaming) == (
            other.client_streaming,
            other.server_streaming,
        )
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name


def test_a_request_of_another_client_reads_the_same_here() -> None:
    request = theirs.ModelInferRequest(model_name="digits", id="7", raw_input_contents=[b"\x00\x01"])
    request.parameters["timeout"].int64_param = 5
    request.inputs.add(name="image", datatype="FP32", shape=[-1, 64]).contents.fp32_contents.append(2.5)
    read = ours.ModelInferRequest.FromString(request.SerializeToString())
    assert read.inputs[0].contents.fp32_contents[0] == 2.5
    assert read.parameters["timeout"].int64_param == 5
    assert theirs.ModelInferRequest.FromString(read.SerializeToString()) == request


@pytest.mark.parametrize(
    "order",
    [
        "import tritonclient.grpc; import clover_rl.serving.protocol.inference_pb2_grpc",
        "import clover_rl.serving.protocol.inference_pb2_grpc; import tritonclient.grpc",
    ],
)
def test_another_client_can_be_imported_before_and_after(order: str) -> None:
    done = subprocess.run([sys.executable, "-c", order], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(version("grpcio-tools") != "1.81.1", reason="the stubs come from grpcio-tools 1.81.1")
def test_committed_stubs_are_what_the_protos_generate(tmp_path: Path) -> None:
    committed = Path(ours.__file__).parents[3]
    written = generate(tmp_path)
    assert len(written) >= 3
    for path in written:
        assert path.read_text() == (committed / path.relative_to(tmp_path)).read_text(), path.name
