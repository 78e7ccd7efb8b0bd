"""Data plane: existing clients just work, and every row of the reference's table of answers holds."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clover_rl.cluster.application import TensorSpec
from clover_rl.cluster.profile_file import load_application
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.endpoint.dataplane import SERVICE_NAME, DataPlaneSettings
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.instances.pool import InstanceSpec
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import RequestOutcome
from clover_rl.serving.worker.definition import ModelDefinition
from tests.serving.endpoint.clients import Code, code_of, message, stub_on
from tests.serving.serving_kit import INPUTS, OUTPUTS, Serve


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


def test_a_stream_that_goes_away_leaves_none_of_its_requests_behind(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stream = stub_on(channel).ModelStreamInfer()
            for _ in range(80):  # more than the server reads ahead
                await stream.write(message())
            async with asyncio.timeout(5):
                while plane.dispatcher.open < 64:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.05)
                stream.cancel()
                while plane.dispatcher.open:
                    await asyncio.sleep(0.005)
            assert plane.dispatcher.router.queued == 0

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
    with pytest.raises(InputError, match="no signature"):
        ServedModel("x", (), OUTPUTS)
    with pytest.raises(InputError, match="datatype FP8"):
        ServedModel("x", (TensorSpec("a", "FP8", (-1,)),), OUTPUTS)
    unbatched = ServedModel("x", (TensorSpec("a", "FP32", (3,)),), OUTPUTS)
    assert unbatched.config().config.max_batch_size == 0
    assert ServedModel("x", INPUTS, OUTPUTS, 8).config().config.max_batch_size == 8


@pytest.mark.parametrize(
    ("variants", "platform", "backend"),
    [
        ([("a.onnx", None)], "onnxruntime_onnx", "onnxruntime"),
        ([("a.safetensors", "net"), ("b.safetensors", "net")], "pytorch_safetensors", "pytorch"),
        ([(None, "model")], "python", "python"),
        ([("a.onnx", None), (None, "model")], "mixed", "mixed"),
    ],
)
def test_clients_are_told_what_the_variants_are_made_of(
    variants: list[tuple[str | None, str | None]], platform: str, backend: str
) -> None:
    source = load_application("digits")
    first = source.smallest
    made = {
        str(number): replace(first, model=model, entry_point=entry_point)
        for number, (model, entry_point) in enumerate(variants)
    }
    served = ServedModel.of(replace(source, variants=made))
    assert served.metadata().platform == served.config().config.platform == platform
    assert served.config().config.backend == backend
