"""The full pipeline with a worker hop against a bare grpc.aio server that runs the model inline.

Both serve the demo's largest network (one image a request) from a process of their own; a third process keeps
1, 8 and 32 requests open. Our instances hold no answer back, so that only the pipeline is measured. Turns
alternate, so that a machine whose speed drifts treats both alike; the ratio is what counts. On two cores the
client, the front end and two instances share what the bare server and its client have to themselves.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import grpc
import numpy as np

from clover_rl.applications.digits import VARIANT_FILES, folder
from clover_rl.cluster.profile_file import load_application
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.protocol import inference_pb2_grpc as rpc

__all__ = ["rows"]

MODEL = folder() / VARIANT_FILES["large"]
INSTANCES = 2
CONCURRENCY = (1, 8, 32)
ROUNDS = 5
SECONDS = 1.5
METHOD = "/inference.GRPCInferenceService/ModelInfer"


class _Inline(rpc.GRPCInferenceServiceServicer):
    """The reference: no queue, no checks, no instance; the model runs where the request arrives."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Answer one request."""
        image = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(1, 64)
        (scores,) = self.session.run(None, {"image": image})
        output = pb.ModelInferResponse.InferOutputTensor(name="scores", datatype="FP32", shape=[1, 10])
        return pb.ModelInferResponse(
            model_name="digits", outputs=[output], raw_output_contents=[scores.tobytes()]
        )


async def _serve_bare() -> None:
    server = grpc.aio.server()
    rpc.add_GRPCInferenceServiceServicer_to_server(_Inline(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def _serve_ours() -> None:
    from clover_rl.serving.clock import RealClock
    from clover_rl.serving.endpoint.dataplane import DataPlane
    from clover_rl.serving.endpoint.served_model import ServedModel
    from clover_rl.serving.instances.pool import InstancePool
    from clover_rl.serving.routing.dispatcher import Dispatcher
    from clover_rl.serving.worker.definition import ModelDefinition
    from clover_rl.serving.worker.spec import InstanceSpec

    application = load_application("digits")
    dispatcher = Dispatcher(RealClock())
    pool = InstancePool(dispatcher, inputs=application.inputs, outputs=application.outputs)
    endpoint = DataPlane(ServedModel.of(application), dispatcher, carbon=lambda *_: (0.001, "modelled"))
    port = await endpoint.start("127.0.0.1:0")
    specs = {
        f"gpu0/1g@{n}:large": InstanceSpec("large", ModelDefinition.onnx(MODEL), 0.0, n)
        for n in range(INSTANCES)
    }
    await pool.reconcile(specs)
    print(port, flush=True)
    await asyncio.Event().wait()


async def _drive(port: int, concurrency: int) -> float:
    """Requests/s of a closed loop; the request is serialised once, as a load generator does."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 64])
    request = pb.ModelInferRequest(
        model_name="digits",
        inputs=[tensor],
        raw_input_contents=[np.zeros((1, 64), np.float32).tobytes()],
    ).SerializeToString()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        await call(request)
        done = 0
        until = time.perf_counter() + SECONDS

        async def loop() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await call(request)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(loop() for _ in range(concurrency)))
        return done / (time.perf_counter() - began)


def _start(which: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving", which], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _measure(port: int, concurrency: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving", "drive", str(port), str(concurrency)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout))


def rows() -> list[dict[str, Any]]:
    """One row per concurrency; ratio = our requests/s over the bare server's, median of the turns."""
    servers = {which: _start(which) for which in ("ours", "bare")}
    try:
        found = []
        for concurrency in CONCURRENCY:
            rates: dict[str, list[float]] = {"ours": [], "bare": []}
            for _ in range(ROUNDS):
                for which, (_, port) in servers.items():
                    rates[which].append(_measure(port, concurrency))
            ratios = [a / b for a, b in zip(rates["ours"], rates["bare"], strict=True)]
            found.append(
                {
                    "name": f"serving_c{concurrency}",
                    "value": statistics.median(rates["ours"]),
                    "unit": "requests/s",
                    "reference": statistics.median(rates["bare"]),
                    "ratio": statistics.median(ratios),
                }
            )
        return found
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare"]:
            asyncio.run(_serve_bare())
        case ["ours"]:
            asyncio.run(_serve_ours())
        case ["drive", port, concurrency]:
            print(json.dumps(asyncio.run(_drive(int(port), int(concurrency)))))
