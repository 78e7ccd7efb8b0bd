"""The servers under test, each a process of its own: `python -m benchmarks.serving.servers WHICH MODEL_FILE`.

bare: grpc.aio, the model inline, no queue, no checks. ours: the full pipeline, the model in instances of
their own. Ours holds no answer back, so that only the pipeline is measured.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.serving.model import INPUTS, MODEL, OUTPUTS
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.protocol import inference_pb2_grpc as rpc

__all__ = ["INSTANCES"]

INSTANCES = 2


class _Inline(rpc.GRPCInferenceServiceServicer):
    """The reference: the model runs where the request arrives."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Answer one request."""
        image = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(1, 64)
        (scores,) = self.session.run(None, {"image": image})
        output = pb.ModelInferResponse.InferOutputTensor(name="scores", datatype="FP32", shape=[1, 10])
        return pb.ModelInferResponse(
            model_name=MODEL, outputs=[output], raw_output_contents=[scores.tobytes()]
        )


async def _bare(path: Path) -> None:
    server = grpc.aio.server()
    rpc.add_GRPCInferenceServiceServicer_to_server(_Inline(path), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def _ours(path: Path) -> None:
    from clover_rl.serving.clock import RealClock
    from clover_rl.serving.endpoint.dataplane import DataPlane
    from clover_rl.serving.endpoint.metrics import Metrics
    from clover_rl.serving.endpoint.served_model import ServedModel
    from clover_rl.serving.instances.pool import InstancePool
    from clover_rl.serving.routing.dispatcher import Dispatcher
    from clover_rl.serving.worker.definition import ModelDefinition
    from clover_rl.serving.worker.spec import InstanceSpec

    dispatcher = Dispatcher(RealClock())
    pool = InstancePool(dispatcher, inputs=INPUTS, outputs=OUTPUTS)
    Metrics(dispatcher, pool, estimate=lambda *_: (1.0, 0.001, "modelled"))
    model = ServedModel(MODEL, INPUTS, OUTPUTS)
    endpoint = DataPlane(model, dispatcher, carbon=lambda *_: (0.001, "modelled"))
    port = await endpoint.start("127.0.0.1:0")
    definition = ModelDefinition.onnx(path)
    await pool.reconcile(
        {f"gpu0/1g@{n}:large": InstanceSpec("large", definition, 0.0, n) for n in range(INSTANCES)}
    )
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    which, file = sys.argv[1:]
    asyncio.run({"bare": _bare, "ours": _ours}[which](Path(file)))
