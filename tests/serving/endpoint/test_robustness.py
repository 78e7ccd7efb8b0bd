"""Robustness: whatever bytes arrive, the answer is a clear status and the server stays up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import grpc
import psutil
import pytest

from clover_rl.serving.endpoint.dataplane import SERVICE_NAME
from clover_rl.serving.protocol import inference_pb2 as pb
from tests.serving.serving_kit import FEATURES, Serve

ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
WORDS = ["linear", "", "1", "abc", "image", "scores", "FP32", "BYTES", "BF16", "timeout", "\u00fc" * 40]
UNKNOWN_FIELDS = [b"\xf2\x3f\x03abc", b"\xf8\x3f\x07", b"\xfd\x3f\x00\x00\x80\x3f"]
SIZES = [0, 1, 2, 3, -1, FEATURES, 2**31, 2**62, -(2**63)]


def well_formed(rng: random.Random) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="linear", raw_input_contents=[bytes(4 * FEATURES)])
    request.inputs.add(name="image", datatype="FP32", shape=[1, FEATURES])
    return request


def distorted(rng: random.Random) -> pb.ModelInferRequest:
    """A request with up to four senseless changes to its fields."""
    request = well_formed(rng)
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(10):
            case 0:
                request.model_name = rng.choice(WORDS)
            case 1:
                request.model_version = rng.choice(WORDS)
            case 2:
                request.inputs.add(name=rng.choice(WORDS), datatype=rng.choice(WORDS))
            case 3 if request.inputs:
                request.inputs[0].datatype = rng.choice(WORDS)
            case 4 if request.inputs:
                request.inputs[0].shape[:] = rng.choices(SIZES, k=rng.randint(0, 5))
            case 5:
                request.raw_input_contents.append(rng.randbytes(rng.choice([0, 1, 24, 4096])))
            case 6:
                del request.raw_input_contents[:]
            case 7 if request.inputs:
                request.inputs[0].contents.fp32_contents.extend([0.0] * rng.choice([1, FEATURES, 100]))
            case 8:
                request.parameters[rng.choice(WORDS)].int64_param = rng.choice(SIZES)
            case 9:
                request.outputs.add(name=rng.choice(WORDS)).parameters["x"].bool_param = True
    return request


def mutated(rng: random.Random) -> bytes:
    """The bytes of a request, some of them changed, cut or doubled."""
    data = bytearray(distorted(rng).SerializeToString() if rng.random() < 0.5 else rng.randbytes(60))
    for _ in range(rng.randint(0, 6)):
        if data:
            place = rng.randrange(len(data))
            match rng.randrange(4):
                case 3:
                    data += rng.choice(UNKNOWN_FIELDS)
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    del data[place : place + rng.randint(1, 9)]
                case 2:
                    data[place:place] = data[: rng.randint(0, 30)]
    return bytes(data)


@pytest.mark.parametrize("requests", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_senseless_requests_get_a_clear_status(serve: Serve, requests: int) -> None:
    rng = random.Random(11)

    async def run() -> None:
        async with serve(instances=2) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            infer = channel.unary_unary(f"/{SERVICE_NAME}/ModelInfer")
            seen: Counter[str] = Counter()
            warm = 0
            for start in range(0, requests, 50):
                if start == requests // 2:
                    warm = psutil.Process().memory_info().rss
                batch = [
                    mutated(rng) if number % 2 else distorted(rng).SerializeToString()
                    for number in range(start, min(start + 50, requests))
                ]
                for outcome in await asyncio.gather(*(infer(data) for data in batch), return_exceptions=True):
                    if isinstance(outcome, grpc.aio.AioRpcError):
                        assert "Traceback" not in (outcome.details() or "")
                        seen[outcome.code().name] += 1
                    else:
                        assert isinstance(outcome, bytes)
                        seen["OK"] += 1
            # Client, server and test share this process; what it holds must not depend on how many came.
            assert psutil.Process().memory_info().rss - warm < 16 << 20
            # A timeout of a microsecond is a sound request that is answered as it asks.
            assert seen.keys() <= ALLOWED | {"DEADLINE_EXCEEDED"}
            assert seen["OK"] >= requests // 50
            assert seen["INVALID_ARGUMENT"] >= requests // 4
            assert (await infer(well_formed(rng).SerializeToString())).startswith(b"\n\x06linear")
            assert all(status.restarts == 0 for status in plane.pool.status())

    asyncio.run(run())


def test_a_stream_survives_bytes_that_are_no_request(serve: Serve) -> None:
    async def run() -> None:
        async with serve() as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stream = channel.stream_stream(f"/{SERVICE_NAME}/ModelStreamInfer")()
            await stream.write(b"\xff\xff\xff")
            await stream.write(well_formed(random.Random(0)).SerializeToString())
            await stream.done_writing()
            first, second = [pb.ModelStreamInferResponse.FromString(data) async for data in stream]
            assert "cannot be read as a ModelInferRequest" in first.error_message
            assert second.infer_response.model_name == "linear"

    asyncio.run(run())
