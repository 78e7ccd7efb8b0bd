"""The model that every server answers with: an MLP 64-256-10, and the one request that is sent."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from clover_rl.cluster.application import TensorSpec
from clover_rl.serving.protocol import inference_pb2 as pb

__all__ = ["INPUTS", "METHOD", "MODEL", "OUTPUTS", "model_file", "request", "request_frame"]

MODEL = "mlp"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
INPUTS = (TensorSpec("image", "FP32", (-1, 64)),)
OUTPUTS = (TensorSpec("scores", "FP32", (-1, 10)),)


def model_file() -> Path:
    """An ONNX file with random weights of a fixed seed, made anew."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.1, (64, 256)),
        "b1": rng.normal(0, 0.1, 256),
        "w2": rng.normal(0, 0.1, (256, 10)),
        "b2": rng.normal(0, 0.1, 10),
    }
    nodes = [
        helper.make_node("Gemm", ["image", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = Path(tempfile.mkdtemp(prefix="clover-bench-")) / "mlp.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def request() -> bytes:
    """One image, raw, as a load generator sends it."""
    image = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 64])
    return pb.ModelInferRequest(
        model_name=MODEL, inputs=[tensor], raw_input_contents=[image.tobytes()]
    ).SerializeToString()


def request_frame() -> bytes:
    """The request as gRPC frames it: a flag, the length, the message."""
    message = request()
    return b"\0" + struct.pack(">I", len(message)) + message
