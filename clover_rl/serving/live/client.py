"""A client in a process of its own: sends random requests at given times, and says what came of each.

`python -m clover_rl.serving.live.client`: address, model and signature on stdin as a JSON
line, then the arrival times, whose line starts the clock; a JSON line out.
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
from clover_rl.serving.protocol import inference_pb2_grpc as rpc

__all__ = ["main"]

REQUESTS = 8
"""Different requests, sent in turn."""


def _requests(model: str, inputs: list[TensorSpec]) -> list[pb.ModelInferRequest]:
    found = []
    for seed in range(REQUESTS):
        request = pb.ModelInferRequest(model_name=model)
        for spec, array in zip(inputs, example_arrays(inputs, seed), strict=True):
            request.inputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
            request.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
        found.append(request)
    return found


async def _send(plan: dict[str, Any]) -> list[list[Any]]:
    inputs = [TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in plan["inputs"]]
    requests = _requests(plan["model"], inputs)
    done: list[list[Any]] = []
    async with grpc.aio.insecure_channel(plan["address"]) as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]

        async def one(number: int, due: float) -> None:
            began = time.perf_counter()
            status = "OK"
            try:
                await stub.ModelInfer(requests[number % REQUESTS], timeout=plan["timeout_s"])
            except grpc.aio.AioRpcError as error:
                status = error.code().name
            done.append([due, 1000.0 * (time.perf_counter() - began), status])

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        arrivals = json.loads(await asyncio.to_thread(sys.stdin.readline))
        start = time.perf_counter()
        tasks = set()
        for number, due in enumerate(arrivals):
            wait = due - (time.perf_counter() - start)
            if wait > 0.0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(one(number, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
    return done


def main() -> int:
    """Entry point; returns the exit status."""
    plan = json.loads(sys.stdin.readline())
    sys.stdout.write(json.dumps(asyncio.run(_send(plan))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
