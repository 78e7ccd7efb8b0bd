"""Clients that the endpoint's tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton

from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.protocol import inference_pb2_grpc as rpc
from tests.serving.serving_kit import FEATURES, Plane, Serve

__all__ = ["ROWS", "Code", "code_of", "in_thread", "message", "stub_on", "triton_inputs"]

ROWS = np.random.default_rng(5).normal(size=(2, FEATURES)).astype(np.float32)
Code = grpc.StatusCode


def triton_inputs(rows: np.ndarray = ROWS) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor]


def message(rows: np.ndarray = ROWS) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="linear", id="42", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=rows.shape)
    return request


def stub_on(channel: grpc.aio.Channel) -> Any:
    return rpc.GRPCInferenceServiceStub(channel)


def in_thread(serve: Serve, body: Callable[[triton.InferenceServerClient, Plane], None], **how: Any) -> None:
    """Runs a blocking client beside the server."""

    async def run() -> None:
        async with serve(**how) as plane:

            def work() -> None:
                with triton.InferenceServerClient(plane.address) as client:
                    body(client, plane)

            await asyncio.to_thread(work)

    asyncio.run(run())


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return Code.OK, ""
