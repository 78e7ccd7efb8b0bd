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

__all__ = ["CLASSES", "FEATURES", "INPUTS", "OUTPUTS", "QUICK", "WEIGHTS", "Plane", "Serve", "save"]

FEATURES, CLASSES = 6, 3
INPUTS = (TensorSpec("image", "FP32", (-1, FEATURES)),)
OUTPUTS = (TensorSpec("scores", "FP32", (-1, CLASSES)),)
WEIGHTS = np.arange(FEATURES * CLASSES, dtype=np.float32).reshape(FEATURES, CLASSES)
QUICK = PoolSettings(heartbeat_s=0.2, silence_s=0.5, backoff_s=0.05, stop_grace_s=1.0)


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
