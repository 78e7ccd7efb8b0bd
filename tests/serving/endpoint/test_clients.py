"""Existing clients just work: tritonclient in its three forms, grpcurl, and @grpc/grpc-js."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sysconfig
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from clover_rl.serving.endpoint.dataplane import SERVICE_NAME
from clover_rl.serving.protocol import inference_pb2 as pb
from tests.serving.endpoint.clients import ROWS, in_thread, triton_inputs
from tests.serving.serving_kit import CLASSES, FEATURES, WEIGHTS, Plane, Serve

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_tritonclient_finds_everything_it_asks_for(serve: Serve) -> None:
    def body(client: triton.InferenceServerClient, plane: Plane) -> None:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("linear")
        assert client.is_model_ready("linear", "1")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata().name == "clover-rl"
        metadata = client.get_model_metadata("linear")
        assert list(metadata.versions) == ["1"]
        assert (metadata.inputs[0].name, metadata.inputs[0].datatype) == ("image", "FP32")
        assert list(metadata.inputs[0].shape) == [-1, FEATURES]
        assert list(metadata.outputs[0].shape) == [-1, CLASSES]
        config = client.get_model_config("linear").config
        assert (config.max_batch_size, list(config.input[0].dims)) == (4, [FEATURES])
        assert config.input[0].data_type == pb.TYPE_FP32
        index = client.get_model_repository_index()
        assert [(model.name, model.state) for model in index.models] == [("linear", "READY")]
        with pytest.raises(InferenceServerException, match="control port"):
            client.load_model("linear")
        with pytest.raises(InferenceServerException, match="control port"):
            client.unload_model("linear")

    in_thread(serve, body)


def test_tritonclient_infers_and_learns_who_answered(serve: Serve) -> None:
    def body(client: triton.InferenceServerClient, plane: Plane) -> None:
        wanted = [triton.InferRequestedOutput("scores")]
        result = client.infer("linear", triton_inputs(), outputs=wanted, request_id="r7", timeout=1_000_000)
        np.testing.assert_allclose(result.as_numpy("scores"), ROWS @ WEIGHTS, rtol=1e-5, atol=1e-5)
        response = result.get_response()
        assert (response.id, response.model_version) == ("r7", "1")
        parameters = response.parameters
        assert parameters["variant"].string_param == "only"
        assert parameters["instance"].string_param == "i0"
        assert parameters["gco2_estimate"].double_param == 0.25
        assert parameters["gco2_kind"].string_param == "modelled"
        assert parameters["queue_ms"].double_param >= 0.0
        assert 9.0 < parameters["compute_ms"].double_param < 60.0

    in_thread(serve, body, hold_s=0.01)


def test_statistics_reconcile(serve: Serve) -> None:
    def body(client: triton.InferenceServerClient, plane: Plane) -> None:
        for rows in (1, 2, 2):
            client.infer("linear", triton_inputs(ROWS[:rows]))
        with pytest.raises(InferenceServerException):
            client.infer("linear", triton_inputs(np.zeros((1, FEATURES + 1), np.float32)))
        (model,) = client.get_inference_statistics("linear").model_stats
        times = model.inference_stats
        assert (model.inference_count, model.execution_count) == (5, 3)
        assert model.last_inference > 1_600_000_000_000
        assert times.success.count == times.queue.count == 3
        assert times.fail.count == 1
        assert times.compute_input.count == times.compute_infer.count == times.compute_output.count == 3
        parts = times.queue.ns + times.compute_input.ns + times.compute_infer.ns + times.compute_output.ns
        assert 0 < parts <= times.success.ns
        assert {batch.batch_size: batch.compute_infer.count for batch in model.batch_stats} == {1: 1, 2: 2}
        assert len(client.get_inference_statistics().model_stats) == 1

    in_thread(serve, body)


def test_tritonclient_streams_in_order_and_an_error_leaves_the_stream_open(serve: Serve) -> None:
    def body(client: triton.InferenceServerClient, plane: Plane) -> None:
        answers: Queue[tuple[Any, Any]] = Queue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for number in range(6):
            rows = np.full((1, FEATURES if number != 3 else FEATURES + 1), number, np.float32)
            client.async_stream_infer(
                "linear",
                triton_inputs(rows),
                request_id=str(number),
                enable_empty_final_response=number == 5,
            )
        for number in range(6):
            result, error = answers.get(timeout=5)
            if number == 3:
                assert "unexpected shape" in str(error)
                continue
            assert error is None
            response = result.get_response()
            assert response.id == str(number)
            assert result.as_numpy("scores")[0, 0] == pytest.approx(number * WEIGHTS[:, 0].sum())
            assert response.parameters["triton_final_response"].bool_param == (number == 5)
        client.stop_stream()

    in_thread(serve, body, instances=2)


def test_tritonclient_asyncio_infers_and_streams(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=2) as plane:
            client = triton_aio.InferenceServerClient(plane.address)
            answers = await asyncio.gather(*(client.infer("linear", triton_inputs()) for _ in range(8)))
            for answer in answers:
                np.testing.assert_allclose(answer.as_numpy("scores"), ROWS @ WEIGHTS, rtol=1e-5, atol=1e-5)
            with pytest.raises(InferenceServerException) as caught:
                await client.infer("other", triton_inputs())
            assert caught.value.status() == "StatusCode.NOT_FOUND"

            async def requests() -> AsyncIterator[dict[str, Any]]:
                for number in range(5):
                    rows = np.full((1, FEATURES if number != 2 else FEATURES + 1), number, np.float32)
                    yield {
                        "model_name": "linear",
                        "inputs": triton_inputs(rows),
                        "request_id": str(number),
                    }

            seen = []
            async for result, error in client.stream_infer(requests()):
                seen.append("error" if error is not None else result.get_response().id)
            assert seen == ["0", "1", "error", "3", "4"]
            await client.close()

    asyncio.run(run())


def test_sync_clients_in_threads_all_get_their_own_answer(serve: Serve) -> None:
    def body(client: triton.InferenceServerClient, plane: Plane) -> None:
        barrier = threading.Barrier(4)

        def ask(seed: int) -> bool:
            barrier.wait(5)
            rows = np.random.default_rng(seed).normal(size=(1, FEATURES)).astype(np.float32)
            scores = [client.infer("linear", triton_inputs(rows)).as_numpy("scores") for _ in range(20)]
            return all(np.allclose(answer, rows @ WEIGHTS, atol=1e-4) for answer in scores)

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(ask, range(4)))

    in_thread(serve, body, instances=2)


def run_example(serve: Serve, *command: str, path: str = "") -> str:
    """What an example prints that is pointed at a running endpoint."""

    async def run() -> str:
        async with serve() as plane:

            def work() -> str:
                done = subprocess.run(
                    [*command, plane.address, "linear", "image", str(FEATURES)],
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=60,
                    env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"},
                )
                assert done.returncode == 0, done.stderr
                return done.stdout

            return await asyncio.to_thread(work)

    return asyncio.run(run())


def test_grpcurl_infers_by_reflection_alone(serve: Serve) -> None:
    scripts = sysconfig.get_path("scripts")
    if shutil.which("grpcurl", path=f"{scripts}{os.pathsep}{os.environ['PATH']}") is None:
        pytest.skip("grpcurl is not installed")
    printed = run_example(serve, str(EXAMPLES / "grpcurl.sh"), path=scripts)
    assert {SERVICE_NAME, "grpc.health.v1.Health"} <= set(printed.split())
    assert '"status": "SERVING"' in printed
    answer = json.loads(printed[printed.index('{\n  "model_name"') :])
    assert answer["parameters"]["variant"] == {"string_param": "only"}


def test_node_infers_and_streams(serve: Serve) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (EXAMPLES / "node" / "node_modules" / "@grpc" / "grpc-js").is_dir():
        pytest.skip("@grpc/grpc-js is not installed: make node")
    found = json.loads(run_example(serve, node, str(EXAMPLES / "node" / "infer.js")))
    scores = (0.5 * WEIGHTS.sum(axis=0)).tolist()
    answered = {"id": f"node-{FEATURES}", "variant": "only", "instance": "i0", "scores": scores}
    assert found["ready"] is True
    assert found["unary"] == answered
    assert found["refused"]["code"] == "INVALID_ARGUMENT"
    assert "unexpected shape for input 'image'" in found["refused"]["details"]
    assert [item["id"] for item in found["stream"]] == [f"node-{FEATURES + n}" for n in (0, 1, 0)]
    assert found["stream"][0] == found["stream"][2] == answered
    assert "unexpected shape" in found["stream"][1]["error"]
