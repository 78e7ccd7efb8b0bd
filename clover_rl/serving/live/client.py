"""A client in a process of its own: sends random requests at given times, and says what came of each.

`python -m clover_rl.serving.live.client`: address, model and signature on stdin as a JSON line; then one line
for each burst, its start on the monotonic clock and the arrivals after that in parts, each part answered by a
line of rows as soon as its last request has ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import numpy as np

from clover_rl.cluster.application import TensorSpec
from clover_rl.serving.measuring.bench_process import example_arrays
from clover_rl.serving.protocol import inference_pb2 as pb

__all__ = ["main"]

METHOD = "/inference.GRPCInferenceService/ModelInfer"
REQUESTS = 8
"""Different requests, sent in turn."""


def _requests(model: str, inputs: list[TensorSpec]) -> list[bytes]:
    """As bytes: a request is made once and not again while the clock runs."""
    found = []
    for seed in range(REQUESTS):
        request = pb.ModelInferRequest(model_name=model)
        for spec, array in zip(inputs, example_arrays(inputs, seed), strict=True):
            request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
            request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
        found.append(request.SerializeToString())
    return found


async def _serve(plan: dict[str, Any]) -> None:
    inputs = [TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in plan["inputs"]]
    requests = _requests(plan["model"], inputs)
    async with grpc.aio.insecure_channel(plan["address"]) as channel:
        call: Any = channel.unary_unary(METHOD, response_deserializer=pb.ModelInferResponse.FromString)

        async def one(number: int, due: float, start: float) -> list[Any]:
            began = time.monotonic()
            status, compute_ms = "OK", None
            try:
                answer = await call(requests[number % REQUESTS], timeout=plan["timeout_s"])
                compute_ms = answer.parameters["compute_ms"].double_param
            except grpc.aio.AioRpcError as error:
                status = error.code().name
            return [due, began - start, 1000.0 * (time.monotonic() - began), status, compute_ms]

        await channel.channel_ready()
        _say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            burst = json.loads(line)
            start, telling, number = burst["start"], None, 0
            for part in burst["parts"]:
                tasks = []
                for due in part:
                    wait = start + due - time.monotonic()
                    if wait > 0.0:
                        await asyncio.sleep(wait)
                    tasks.append(asyncio.create_task(one(number, due, start)))
                    number += 1
                telling = asyncio.create_task(_tell(tasks, telling))
            if telling is not None:
                await telling


async def _tell(tasks: list[asyncio.Task[list[Any]]], before: asyncio.Task[None] | None) -> None:
    """Say what came of a part, after the part before."""
    rows = await asyncio.gather(*tasks)
    if before is not None:
        await before
    _say(json.dumps(rows))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point; returns the exit status."""
    asyncio.run(_serve(json.loads(sys.stdin.readline())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
