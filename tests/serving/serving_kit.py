"""Constants and types that the serving tests share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from clover_rl.cluster.application import TensorSpec
from clover_rl.serving.endpoint.dataplane import DataPlane
from clover_rl.serving.instances.pool import InstancePool, PoolSettings
from clover_rl.serving.routing.dispatcher import CompletedRequest, Dispatcher

__all__ = [
    "CLASSES",
    "ENTRIES",
    "FEATURES",
    "INPUTS",
    "OUTPUTS",
    "PACKAGE",
    "QUICK",
    "WEIGHTS",
    "Plane",
    "Serve",
    "save",
]

FEATURES, CLASSES = 6, 3
INPUTS = (TensorSpec("image", "FP32", (-1, FEATURES)),)
OUTPUTS = (TensorSpec("scores", "FP32", (-1, CLASSES)),)
WEIGHTS = np.arange(FEATURES * CLASSES, dtype=np.float32).reshape(FEATURES, CLASSES)
QUICK = PoolSettings(heartbeat_s=0.2, silence_s=0.5, backoff_s=0.05, stop_grace_s=1.0)


PACKAGE = """
import numpy as np

class Scale:
    inputs = [("words", "BYTES", (-1,)), ("factors", "FP32", (-1,))]
    outputs = [("echo", "BYTES", (-1,)), ("doubled", "FP32", (-1,))]

    def infer(self, words, factors):
        if len(words) != len(factors):
            raise ValueError("lengths")
        if factors[0] < 0:
            raise KeyError("a bug")
        return [word + "!" for word in words], 2 * factors

class Lying(Scale):
    def infer(self, words, factors):
        return (words,)

class Level:
    inputs = [("number", "FP32", ())]
    outputs = [("level", "INT8", ())]

    def infer(self, number):
        if number < 0:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return int(number)

class Moody:
    inputs = [("image", "FP32", (-1, 6))]
    outputs = [("scores", "FP32", (-1, 3))]

    def infer(self, image):
        if image[0, 0] < -50:
            raise KeyError("/secret/path")
        return image[:, :3]

def linear():
    import torch
    return torch.nn.Linear(6, 3)

def broken():
    raise OSError("/secret/path")
"""
ENTRIES = """[clover_rl.models]
scale = clover_test_models:Scale
level = clover_test_models:Level
lying = clover_test_models:Lying
moody = clover_test_models:Moody
linear = clover_test_models:linear
broken = clover_test_models:broken
"""


def save(path: Path, graph: onnx.GraphProto) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@dataclass
class Plane:
    """A running data plane."""

    address: str
    dispatcher: Dispatcher
    pool: InstancePool
    endpoint: DataPlane
    completed: list[CompletedRequest]


Serve = Callable[..., AbstractAsyncContextManager[Plane]]
