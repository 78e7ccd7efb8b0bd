"""Data plane: existing clients just work, and every row of the reference's table of answers holds."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sysconfig
import threading
from collections.abc import Callable
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
from clover_rl.serving.protocol import inference_pb2_grpc as rpc
from clover_rl.serving.routing.dispatcher import RequestOutcome
from tests.serving.serving_kit import CLASSES, FEATURES, INPUTS, OUTPUTS, WEIGHTS, Plane, Serve

ROWS = np.random.default_rng(5).normal(size=(2, FEATURES)).astype(np.float32)
Code = grpc.StatusCode


def triton_inputs(rows: np.ndarray = ROWS) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return [tensor]


def message(rows: np.ndarray = ROWS) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="linear", id="42", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="image", datatype="FP32", shape=rows.shape)
    return request


def stub_on(channel: grpc.aio.Channel) -> Any:
    return rpc.GRPCInferenceServiceStub(channel)


def in_thread(serve: Serve, body: Callable[[triton.InferenceServerClient, Plane], None], **how: Any) -> None:
    """Runs a blocking client beside the server."""

    async def run() -> None:
        async with serve(**how) as plane:

            def work() -> None:
                with triton.InferenceServerClient(plane.address) as client:
                    body(client, plane)

            await asyncio.to_thread(work)

    asyncio.run(run())


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return Code.OK, ""


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


def change(**fields: Any) -> Callable[[pb.ModelInferRequest], None]:
    def apply(request: pb.ModelInferRequest) -> None:
        for name, value in fields.items():
            target: Any = request.inputs[0] if name in ("name", "datatype", "shape") else request
            if isinstance(value, list):
                del getattr(target, name)[:]
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)

    return apply


def with_contents(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.fp32_contents.extend([0.0] * ROWS.size)


def typed_only(field: str, values: list[Any]) -> Callable[[pb.ModelInferRequest], None]:
    def apply(request: pb.ModelInferRequest) -> None:
        del request.raw_input_contents[:]
        getattr(request.inputs[0].contents, field).extend(values)

    return apply


def parameter(name: str, kind: str, value: Any) -> Callable[[pb.ModelInferRequest], None]:
    return lambda request: setattr(request.parameters[name], kind, value)


INVALID = Code.INVALID_ARGUMENT
ANSWERS: dict[str, tuple[Callable[[pb.ModelInferRequest], Any], grpc.StatusCode, str]] = {
    "as it should be": (lambda r: None, Code.OK, ""),
    "typed contents": (typed_only("fp32_contents", [0.5] * ROWS.size), Code.OK, ""),
    "version 1": (change(model_version="1"), Code.OK, ""),
    "one output": (lambda r: r.outputs.add(name="scores"), Code.OK, ""),
    "unknown parameter": (parameter("anything", "bool_param", True), Code.OK, ""),
    "unknown model": (
        change(model_name="x"),
        Code.NOT_FOUND,
        "Request for unknown model: 'x' is not found",
    ),
    "unknown version": (change(model_version="9"), Code.NOT_FOUND, "'linear' version 9 is not found"),
    "senseless version": (change(model_version="abc"), INVALID, "version string 'abc'"),
    "bytes missing": (change(raw_input_contents=[b"123"]), INVALID, "byte size 3 for input 'image'"),
    "datatype": (change(datatype="FP64"), INVALID, "data-type is 'FP64'"),
    "no datatype": (change(datatype=""), INVALID, "data-type is ''"),
    "rank": (change(shape=[2, FEATURES, 1]), INVALID, "unexpected shape for input 'image'"),
    "features": (change(shape=[2, FEATURES + 1]), INVALID, "unexpected shape"),
    "no rows": (change(shape=[0, FEATURES], raw_input_contents=[b""]), INVALID, "unexpected shape"),
    "negative rows": (change(shape=[-1, FEATURES]), INVALID, "unexpected shape"),
    "huge rows": (change(shape=[2**62, FEATURES]), INVALID, "unexpected total byte size"),
    "too many rows": (
        lambda r: change(shape=[5, FEATURES], raw_input_contents=[bytes(20 * FEATURES)])(r),
        INVALID,
        "batch-size must be <= 4",
    ),
    "input name": (change(name="picture"), INVALID, "unexpected inference input 'picture'"),
    "no input": (lambda r: r.ClearField("inputs"), INVALID, "expected 1 inputs but got 0"),
    "two inputs": (lambda r: r.inputs.add(name="more"), INVALID, "expected 1 inputs but got 2"),
    "output name": (lambda r: r.outputs.add(name="label"), INVALID, "unexpected inference output 'label'"),
    "output twice": (
        lambda r: r.outputs.extend([pb.ModelInferRequest.InferRequestedOutputTensor(name="scores")] * 2),
        INVALID,
        "requested twice",
    ),
    "classification": (
        lambda r: setattr(r.outputs.add(name="scores").parameters["classification"], "int64_param", 2),
        INVALID,
        "does not offer",
    ),
    "shared memory": (
        lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "x"),
        INVALID,
        "does not offer",
    ),
    "raw with contents": (with_contents, INVALID, "together with 'raw_input_contents'"),
    "no data": (change(raw_input_contents=[]), INVALID, "no data"),
    "two raw": (change(raw_input_contents=[ROWS.tobytes()] * 2), INVALID, "2 entries for 1 inputs"),
    "wrong field": (typed_only("int_contents", [1] * ROWS.size), INVALID, "belong in 'fp32_contents'"),
    "elements missing": (typed_only("fp32_contents", [0.5]), INVALID, "unexpected number of elements 1"),
    "type of timeout": (parameter("timeout", "string_param", "1"), INVALID, "'timeout' parameter"),
    "negative timeout": (parameter("timeout", "int64_param", -1), INVALID, "'timeout' is -1"),
    "type of sequence_start": (parameter("sequence_start", "int64_param", 1), INVALID, "bool_param"),
}


def test_every_wrong_request_gets_the_reference_answer_and_the_server_stays_up(serve: Serve) -> None:
    async def run() -> None:
        async with serve() as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            found, wanted = {}, {}
            for name, (apply, code, sentence) in ANSWERS.items():
                request = message()
                apply(request)
                got, details = await code_of(stub.ModelInfer(request))
                found[name] = (got, sentence if sentence in details else details)
                wanted[name] = (code, sentence)
            assert found == wanted
            answer = await stub.ModelInfer(message())
            assert answer.id == "42"
            wrong = sum(code is not Code.OK for _, code, _ in ANSWERS.values())
            outcomes = [request.outcome for request in plane.completed]
            assert outcomes.count(RequestOutcome.INVALID) == wrong
            assert plane.dispatcher.arrived == len(outcomes) == len(ANSWERS) + 1

    asyncio.run(run())


def test_questions_about_an_unknown_model_get_the_reference_answers(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            found = {
                "metadata": (await code_of(stub.ModelMetadata(pb.ModelMetadataRequest(name="x"))))[0],
                "config": (await code_of(stub.ModelConfig(pb.ModelConfigRequest(name="x"))))[0],
                "statistics": (await code_of(stub.ModelStatistics(pb.ModelStatisticsRequest(name="x"))))[0],
                "ready": (await code_of(stub.ModelReady(pb.ModelReadyRequest(name="x"))))[0],
                "version": (
                    await code_of(stub.ModelMetadata(pb.ModelMetadataRequest(name="linear", version="abc")))
                )[0],
            }
            assert found == {
                "metadata": Code.NOT_FOUND,
                "config": Code.NOT_FOUND,
                "statistics": INVALID,
                "ready": Code.OK,
                "version": INVALID,
            }
            assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
            (model,) = (await stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
            assert model.state == "UNAVAILABLE"
            assert not (await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models

    asyncio.run(run())


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


def test_changing_instances_under_load_loses_nothing(serve: Serve, linear_model: Path) -> None:
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


def test_health_checks_and_watches(serve: Serve, linear_model: Path) -> None:
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
