"""The short way through requests and responses says exactly what protobuf says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import CloverError
from clover_rl.serving.endpoint.request_reader import RequestReader, parse
from clover_rl.serving.endpoint.requests import ParsedRequest, read_request
from clover_rl.serving.endpoint.response_writer import FINAL_RESPONSE, ResponseWriter, length
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import Answer
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.tensors import encode_bytes
from tests.serving.endpoint.test_robustness import distorted, mutated
from tests.serving.serving_kit import FEATURES, INPUTS, OUTPUTS

LINEAR = ServedModel("linear", INPUTS, OUTPUTS, 4)
TEXT = ServedModel(
    "text",
    (TensorSpec("words", "BYTES", (-1,)), TensorSpec("counts", "INT16", (-1, 2))),
    (TensorSpec("echo", "BYTES", (-1,)), TensorSpec("negated", "INT16", (-1, 2))),
    4,
)


def outcome(model: ServedModel, reader: RequestReader | None, data: bytes) -> object:
    """What a request is read as, or the error it gets."""
    try:
        if reader is None:
            found = read_request(model, parse(pb.ModelInferRequest(), data))
        else:
            found = reader.read(data)
    except CloverError as error:
        return type(error), error.what
    tensors = tuple(Tensor(tensor.shape, bytes(tensor.data)) for tensor in found.tensors)
    return found._replace(tensors=tensors)


@pytest.mark.parametrize("seed", range(4))
def test_senseless_and_repeated_requests_are_read_as_protobuf_reads_them(seed: int) -> None:
    rng = random.Random(seed)
    reader = RequestReader(LINEAR)
    for _ in range(500):
        data = mutated(rng) if rng.random() < 0.5 else distorted(rng).SerializeToString()
        wanted = outcome(LINEAR, None, data)
        assert outcome(LINEAR, reader, data) == wanted  # the first time it may be learnt,
        assert outcome(LINEAR, reader, data) == wanted  # the second time it may be known


def text_request(words: list[bytes], request_id: str = "") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="text", id=request_id)
    # the other way round than in the signature
    request.inputs.add(name="counts", datatype="INT16", shape=[len(words), 2])
    request.inputs.add(name="words", datatype="BYTES", shape=[len(words)])
    request.raw_input_contents.extend([bytes(4 * len(words)), encode_bytes(words)])
    return request


def test_a_known_header_takes_new_contents_and_a_new_id_without_protobuf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = RequestReader(TEXT)
    reader.read(text_request([b"a", b"bc"]).SerializeToString())
    monkeypatch.setattr("clover_rl.serving.endpoint.request_reader.read_request", None)
    found = reader.read(text_request([b"longer", b""], "7" * 200).SerializeToString())
    assert found.id == b"7" * 200
    assert bytes(found.tensors[0].data) == encode_bytes([b"longer", b""])
    assert found.tensors[1] == Tensor((2, 2), bytes(8))
    assert found.size_bytes == 8 + 14


def test_a_known_header_with_other_contents_gets_its_own_error() -> None:
    reader = RequestReader(TEXT)
    reader.read(text_request([b"a", b"bc"]).SerializeToString())
    cut = text_request([b"a", b"bc"])
    cut.raw_input_contents[1] = cut.raw_input_contents[1][:-1]
    with pytest.raises(CloverError, match="expecting 2 elements"):
        reader.read(cut.SerializeToString())
    short = text_request([b"a", b"bc"])
    short.raw_input_contents[0] = b"123"
    with pytest.raises(CloverError, match="byte size 3 for input 'counts'"):
        reader.read(short.SerializeToString())
    bad_id = text_request([b"a", b"bc"], "??").SerializeToString().replace(b"\x1a\x02??", b"\x1a\x02\xff\xff")
    with pytest.raises(CloverError, match="cannot be read"):
        reader.read(bad_id)


def test_made_up_headers_do_not_pile_up() -> None:
    reader = RequestReader(LINEAR)
    for number in range(1000):
        request = pb.ModelInferRequest(model_name="linear", raw_input_contents=[bytes(4 * FEATURES)])
        request.inputs.add(name="image", datatype="FP32", shape=[1, FEATURES])
        request.parameters["anything"].int64_param = number
        assert isinstance(reader.read(request.SerializeToString()), ParsedRequest)
    assert len(reader._templates) <= 256


@given(
    request_id=st.text(max_size=200),
    rows=st.integers(1, 300),
    numbers=st.tuples(*[st.integers(0, 2**62)] * 2),
    wanted=st.sampled_from([None, (0,), (1,), (1, 0)]),
    carbon=st.none() | st.tuples(st.floats(allow_nan=False), st.sampled_from(["modelled", "measured"])),
    final=st.booleans(),
)
def test_a_response_says_what_was_answered(
    request_id: str,
    rows: int,
    numbers: tuple[int, int],
    wanted: tuple[int, ...] | None,
    carbon: tuple[float, str] | None,
    final: bool,
) -> None:
    tensors = (Tensor((rows,), memoryview(b"\1\0\0\0x" * rows)), Tensor((rows, 2), bytes(4 * rows)))
    answer = Answer("größe", "gpu0/1g@0:größe", tensors, numbers[0], 0, numbers[1], 0)
    writer = ResponseWriter(TEXT)
    for _ in range(2):
        data = writer.write(request_id.encode(), answer, wanted, carbon)
    response = pb.ModelInferResponse.FromString(data + FINAL_RESPONSE if final else data)
    expected = pb.ModelInferResponse(model_name="text", model_version="1", id=request_id)
    expected.parameters["variant"].string_param = answer.variant
    expected.parameters["instance"].string_param = answer.instance
    expected.parameters["queue_ms"].double_param = numbers[0] / 1e6
    expected.parameters["compute_ms"].double_param = numbers[1] / 1e6
    if carbon is not None:
        expected.parameters["gco2_estimate"].double_param = carbon[0]
        expected.parameters["gco2_kind"].string_param = carbon[1]
    if final:
        expected.parameters["triton_final_response"].bool_param = True
    for index in (0, 1) if wanted is None else wanted:
        spec = TEXT.outputs[index]
        expected.outputs.add(name=spec.name, datatype=spec.datatype, shape=tensors[index].shape)
        expected.raw_output_contents.append(bytes(tensors[index].data))
    assert response == expected


@given(st.integers(0, 2**35 - 1))
def test_lengths_are_written_as_protobuf_writes_them(size: int) -> None:
    written = pb.StatisticDuration(count=size).SerializeToString()
    assert written == (b"\x08" + length(size) if size else b"")
