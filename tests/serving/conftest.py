"""What the serving tests share: tiny models made here, and a whole data plane on a free port."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from onnx import TensorProto, helper, numpy_helper

from clover_rl.serving.clock import RealClock
from clover_rl.serving.endpoint.dataplane import DataPlane, DataPlaneSettings
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.instances.pool import InstancePool, InstanceSpec
from clover_rl.serving.routing.dispatcher import CompletedRequest, Dispatcher
from clover_rl.serving.worker.definition import ModelDefinition
from tests.serving.serving_kit import (
    CLASSES,
    ENTRIES,
    FEATURES,
    INPUTS,
    OUTPUTS,
    PACKAGE,
    QUICK,
    WEIGHTS,
    Plane,
    Serve,
    save,
)


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory) -> ModelDefinition:
    """scores = image @ WEIGHTS, so that every answer can be checked."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "weights"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    return ModelDefinition.onnx(save(tmp_path_factory.mktemp("models") / "linear.onnx", graph))


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> ModelDefinition:
    """Echoes text and counts, to cover inputs of two kinds."""
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["words"], ["echo"]),
            helper.make_node("Neg", ["counts"], ["negated"]),
        ],
        "text",
        [
            helper.make_tensor_value_info("words", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info("counts", TensorProto.INT16, ["n", 2]),
        ],
        [
            helper.make_tensor_value_info("echo", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info("negated", TensorProto.INT16, ["n", 2]),
        ],
    )
    return ModelDefinition.onnx(save(tmp_path_factory.mktemp("models") / "text.onnx", graph))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that offers models."""
    folder = tmp_path / "site"
    info = folder / "clover_test_models-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "clover_test_models.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clover-test-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([inherited] if inherited else [])]))
    return folder


@pytest.fixture
def serve(linear_model: ModelDefinition) -> Serve:
    """Starts `instances` processes of a model, the linear one where none is named, behind an endpoint."""

    @asynccontextmanager
    async def start(
        *,
        instances: int = 1,
        hold_s: float = 0.0,
        capacity: int = 1024,
        max_batch_size: int = 4,
        settings: DataPlaneSettings | None = None,
        prefix: str = "i",
        model: ModelDefinition | None = None,
    ) -> AsyncIterator[Plane]:
        dispatcher = Dispatcher(RealClock(), capacity=capacity)
        completed: list[CompletedRequest] = []
        dispatcher.observe(completed.append)
        pool = InstancePool(dispatcher, inputs=INPUTS, outputs=OUTPUTS, settings=QUICK)
        endpoint = DataPlane(
            ServedModel("linear", INPUTS, OUTPUTS, max_batch_size),
            dispatcher,
            settings=settings,
            carbon=lambda variant, instance: (0.25, "modelled"),
        )
        port = await endpoint.start("127.0.0.1:0")
        try:
            await pool.reconcile(
                {
                    f"{prefix}{n}": InstanceSpec("only", model or linear_model, hold_s, n)
                    for n in range(instances)
                }
            )
            yield Plane(f"127.0.0.1:{port}", dispatcher, pool, endpoint, completed)
        finally:
            await endpoint.stop(0.2)
            await pool.close()

    return start
