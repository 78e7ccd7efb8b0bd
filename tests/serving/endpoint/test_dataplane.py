"""Data plane: existing clients just work, and every row of the reference's table of answers holds."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from clover_rl.errors import InputError, ServingError
from clover_rl.serving.endpoint.dataplane import SERVICE_NAME, DataPlaneSettings
from clover_rl.serving.instances.pool import InstanceSpec
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import RequestOutcome
from clover_rl.serving.worker.definition import ModelDefinition
from tests.serving.endpoint.clients import ROWS, Code, code_of, in_thread, message, stub_on, triton_inputs
from tests.serving.serving_kit import CLASSES, FEATURES, INPUTS, OUTPUTS, WEIGHTS, Plane, Serve


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


def test_a_message_over_the_limit_is_refused_and_the_server_stays_up(serve: Serve) -> None:
    async def run() -> None:
        settings = DataPlaneSettings(max_message_bytes=1 << 20)
        async with serve(settings=settings) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            large = message()
            large.raw_input_contents[0] = bytes(2 << 20)
            assert (await code_of(stub.ModelInfer(large)))[0] is Code.RESOURCE_EXHAUSTED
            assert (await stub.ModelInfer(message())).model_name == "linear"

    asyncio.run(run())


def test_an_address_in_use_is_one_clear_error(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, serve(instances=0) as other:
            await other.endpoint.stop(0)
            with pytest.raises(ServingError, match="in use"):
                await other.endpoint.start(plane.address)

    asyncio.run(run())


@pytest.mark.parametrize(("as_triton", "code"), [(False, Code.RESOURCE_EXHAUSTED), (True, Code.UNAVAILABLE)])
def test_a_full_queue_answers_as_it_is_set(serve: Serve, as_triton: bool, code: grpc.StatusCode) -> None:
    async def run() -> None:
        settings = DataPlaneSettings(full_is_unavailable=as_triton)
        async with (
            serve(hold_s=0.6, capacity=2, settings=settings) as plane,
            grpc.aio.insecure_channel(plane.address) as channel,
        ):
            stub = stub_on(channel)
            codes = await asyncio.gather(*(code_of(stub.ModelInfer(message())) for _ in range(6)))
            assert sorted(got.name for got, _ in codes) == sorted(["OK"] * 3 + [code.name] * 3)

    asyncio.run(run())


@pytest.mark.parametrize("how", ["parameter", "call"])
def test_a_deadline_is_kept_and_leaves_the_queue(serve: Serve, how: str) -> None:
    async def run() -> None:
        async with (
            serve(hold_s=0.3) as plane,
            grpc.aio.insecure_channel(plane.address) as channel,
        ):
            stub = stub_on(channel)
            first = asyncio.create_task(code_of(stub.ModelInfer(message())))
            async with asyncio.timeout(5):
                while not plane.dispatcher.router.serving:
                    await asyncio.sleep(0.005)
            late = message()
            if how == "parameter":
                late.parameters["timeout"].int64_param = 50_000
            call = stub.ModelInfer(late, timeout=None if how == "parameter" else 0.05)
            assert (await code_of(call))[0] is Code.DEADLINE_EXCEEDED
            async with asyncio.timeout(0.2):
                while plane.dispatcher.router.queued:
                    await asyncio.sleep(0.005)
            assert (await first)[0] is Code.OK
            assert [request.outcome for request in plane.completed] == [
                RequestOutcome.TIMED_OUT,
                RequestOutcome.ANSWERED,
            ]
            assert plane.completed[0].started_s is None

    asyncio.run(run())


def test_draining_answers_what_was_accepted_and_refuses_the_rest(serve: Serve) -> None:
    async def run() -> None:
        async with serve(hold_s=0.3) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            stream = stub.ModelStreamInfer()
            await stream.write(message())
            accepted = [asyncio.create_task(code_of(stub.ModelInfer(message()))) for _ in range(3)]
            async with asyncio.timeout(5):
                while plane.dispatcher.open < 4:
                    await asyncio.sleep(0.005)
            draining = asyncio.create_task(plane.endpoint.drain(5.0))
            await asyncio.sleep(0.01)
            assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
            assert (await stub.ServerLive(pb.ServerLiveRequest())).live
            assert (await code_of(stub.ModelInfer(message())))[0] is Code.UNAVAILABLE
            await stream.write(message())
            assert await draining
            assert [code for code, _ in [await task for task in accepted]] == [Code.OK] * 3
            assert (await stream.read()).infer_response.model_name == "linear"
            assert "stopping" in (await stream.read()).error_message
            await plane.endpoint.stop(1.0)
            assert await stream.read() is grpc.aio.EOF
            assert await stream.code() is Code.OK

    asyncio.run(run())


def test_drain_says_when_its_time_was_too_short(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            waiting = asyncio.create_task(code_of(stub_on(channel).ModelInfer(message())))
            async with asyncio.timeout(5):
                while not plane.dispatcher.open:
                    await asyncio.sleep(0.005)
            assert not await plane.endpoint.drain(0.05)
            plane.dispatcher.abandon("no instance came to serve it")
            assert await waiting == (Code.UNAVAILABLE, "no instance came to serve it")

    asyncio.run(run())


def test_a_client_that_goes_away_frees_its_place(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            call = stub_on(channel).ModelInfer(message())
            stream = stub_on(channel).ModelStreamInfer()
            await stream.write(message())
            async with asyncio.timeout(5):
                while plane.dispatcher.router.queued < 2:
                    await asyncio.sleep(0.005)
                call.cancel()
                stream.cancel()
                while plane.dispatcher.open:
                    await asyncio.sleep(0.005)
            assert plane.dispatcher.router.queued == 0
            assert [request.outcome for request in plane.completed] == [RequestOutcome.CANCELLED] * 2

    asyncio.run(run())


def test_changing_instances_under_load_loses_nothing(serve: Serve, linear_model: ModelDefinition) -> None:
    async def run() -> None:
        async with (
            serve(instances=2, hold_s=0.002) as plane,
            grpc.aio.insecure_channel(plane.address) as channel,
        ):
            stub = stub_on(channel)
            stop = False
            codes: list[grpc.StatusCode] = []

            async def client() -> None:
                while not stop:
                    codes.append((await code_of(stub.ModelInfer(message())))[0])

            clients = [asyncio.create_task(client()) for _ in range(6)]
            await asyncio.sleep(0.05)
            for step in range(4):
                await plane.pool.reconcile(
                    {f"s{step}-{n}": InstanceSpec(f"v{step}", linear_model, 0.002, n) for n in range(2)}
                )
                await asyncio.sleep(0.05)
            stop = True
            await asyncio.gather(*clients)
            assert set(codes) == {Code.OK}
            assert {request.variant for request in plane.completed} >= {"only", "v0", "v1", "v2", "v3"}

    asyncio.run(run())


def test_health_checks_and_watches(serve: Serve, linear_model: ModelDefinition) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            status = health_pb2.HealthCheckResponse
            watches = [stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAME)) for _ in range(2)]
            for watch in watches:
                assert (await watch.read()).status == status.NOT_SERVING
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="x"))
            assert (await unknown.read()).status == status.SERVICE_UNKNOWN
            watches.pop().cancel()
            await plane.pool.reconcile({"a": InstanceSpec("v", linear_model, 0.0, 0)})
            assert (await watches[0].read()).status == status.SERVING
            for service in ("", SERVICE_NAME, "linear"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == status.SERVING
            call = stub.Check(health_pb2.HealthCheckRequest(service="x"))
            assert (await code_of(call))[0] is Code.NOT_FOUND
            assert await plane.endpoint.drain(1.0)
            assert (await watches[0].read()).status == status.NOT_SERVING
            await plane.endpoint.stop(1.0)
            assert await watches[0].read() is grpc.aio.EOF

    asyncio.run(run())


def test_grpcurl_infers_by_reflection_alone(serve: Serve) -> None:
    grpcurl = Path(sysconfig.get_path("scripts")) / "grpcurl"
    if not grpcurl.exists():
        pytest.skip("grpcurl is not installed")

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [str(grpcurl), "-plaintext", *arguments], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def run() -> None:
        async with serve() as plane:
            listed = await asyncio.to_thread(ask, plane.address, "list")
            assert {SERVICE_NAME, "grpc.health.v1.Health"} <= set(listed.split())
            request = {
                "model_name": "linear",
                "inputs": [
                    {
                        "name": "image",
                        "datatype": "FP32",
                        "shape": [1, FEATURES],
                        "contents": {"fp32_contents": [1.0] * FEATURES},
                    }
                ],
            }
            answer = await asyncio.to_thread(
                ask, "-d", json.dumps(request), plane.address, f"{SERVICE_NAME}/ModelInfer"
            )
            assert json.loads(answer)["parameters"]["variant"] == {"string_param": "only"}

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


def test_observed_times_are_in_order(serve: Serve) -> None:
    async def run() -> None:
        async with (
            serve(instances=2, hold_s=0.005) as plane,
            grpc.aio.insecure_channel(plane.address) as channel,
        ):
            stub = stub_on(channel)
            await asyncio.gather(*(stub.ModelInfer(message()) for _ in range(12)))
            assert {request.instance for request in plane.completed} == {"i0", "i1"}
            for request in plane.completed:
                assert request.started_s is not None
                assert request.arrived_s <= request.started_s
                assert request.finished_s - request.started_s + 1e-6 >= 0.005
                assert math.isfinite(request.finished_s)

    asyncio.run(run())


def test_an_application_without_a_signature_cannot_be_served() -> None:
    from clover_rl.cluster.application import TensorSpec
    from clover_rl.serving.endpoint.served_model import ServedModel

    with pytest.raises(InputError, match="no signature"):
        ServedModel("x", (), OUTPUTS)
    with pytest.raises(InputError, match="datatype FP8"):
        ServedModel("x", (TensorSpec("a", "FP8", (-1,)),), OUTPUTS)
    unbatched = ServedModel("x", (TensorSpec("a", "FP32", (3,)),), OUTPUTS)
    assert unbatched.config().config.max_batch_size == 0
    assert ServedModel("x", INPUTS, OUTPUTS, 8).config().config.max_batch_size == 8
