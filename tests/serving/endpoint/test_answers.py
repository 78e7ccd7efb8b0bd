"""The table of answers of the reference server, row by row."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from clover_rl.serving.endpoint.dataplane import SERVICE_NAME
from clover_rl.serving.endpoint.repository import RepositoryService
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import RequestOutcome
from clover_rl.serving.worker.definition import ModelDefinition
from tests.serving.endpoint.clients import ROWS, Code, code_of, message, stub_on
from tests.serving.serving_kit import FEATURES, Serve


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
    "version 1 with zeros": (change(model_version="0001"), Code.OK, ""),
    "endless version": (change(model_version="9" * 5000), Code.NOT_FOUND, "'linear' version 999"),
    "endless model": (change(model_name="ü" * 20_000), Code.NOT_FOUND, "unknown model: 'üüü"),
    "endless shape": (change(shape=[1] * 8_000), INVALID, "unexpected shape"),
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


ELSEWHERE = (
    Code.UNIMPLEMENTED,
    "this port serves requests only; which variants are loaded is decided on the control port",
)
NOT_FOUND = (Code.NOT_FOUND, "Request for unknown model: 'x' is not found")
BAD_VERSION = (INVALID, "failed to get model version from specified version string 'abc'")
QUESTIONS: dict[str, tuple[str, Message, tuple[grpc.StatusCode, str]]] = {
    "metadata of an unknown model": ("ModelMetadata", pb.ModelMetadataRequest(name="x"), NOT_FOUND),
    "metadata of an unknown version": (
        "ModelMetadata",
        pb.ModelMetadataRequest(name="linear", version="2"),
        (Code.NOT_FOUND, "Request for unknown model: 'linear' version 2 is not found"),
    ),
    "metadata of version abc": (
        "ModelMetadata",
        pb.ModelMetadataRequest(name="linear", version="abc"),
        BAD_VERSION,
    ),
    "config of an unknown model": ("ModelConfig", pb.ModelConfigRequest(name="x"), NOT_FOUND),
    "config of an unknown version": (
        "ModelConfig",
        pb.ModelConfigRequest(name="linear", version="2"),
        (Code.NOT_FOUND, "Request for unknown model: 'linear' version 2 is not found"),
    ),
    "config of version abc": (
        "ModelConfig",
        pb.ModelConfigRequest(name="linear", version="abc"),
        BAD_VERSION,
    ),
    "statistics of an unknown model": (
        "ModelStatistics",
        pb.ModelStatisticsRequest(name="x"),
        (INVALID, "requested model 'x' is not available"),
    ),
    "readiness of an unknown model": ("ModelReady", pb.ModelReadyRequest(name="x"), (Code.OK, "")),
    "readiness of an unknown version": (
        "ModelReady",
        pb.ModelReadyRequest(name="linear", version="2"),
        (Code.OK, ""),
    ),
    "readiness of version abc": (
        "ModelReady",
        pb.ModelReadyRequest(name="linear", version="abc"),
        BAD_VERSION,
    ),
    "load": ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="linear"), ELSEWHERE),
    "unload": ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="linear"), ELSEWHERE),
}


def test_every_question_gets_the_reference_answer(serve: Serve) -> None:
    async def run() -> None:
        async with serve() as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            found = {
                name: await code_of(getattr(stub, method)(request))
                for name, (method, request, _) in QUESTIONS.items()
            }
            assert found == {name: wanted for name, (_, _, wanted) in QUESTIONS.items()}
            for request in (pb.ModelReadyRequest(name="x"), pb.ModelReadyRequest(name="linear", version="2")):
                assert not (await stub.ModelReady(request)).ready
            assert (await stub.ModelReady(pb.ModelReadyRequest(name="linear"))).ready

    asyncio.run(run())


def test_bytes_that_are_no_question_get_a_clear_status(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            for method in ("ModelMetadata", "ModelConfig", "ModelStatistics", "ModelReady", "ModelInfer"):
                call = channel.unary_unary(f"/{SERVICE_NAME}/{method}")(b"\xff\xff")
                code, details = await code_of(call)
                assert (code, details) == (INVALID, f"the request cannot be read as a {method}Request")

    asyncio.run(run())


def test_shared_memory_of_a_client_is_never_opened(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            for kind in ("System", "Cuda"):
                for verb in ("Register", "Unregister", "Status"):
                    call = channel.unary_unary(f"/{SERVICE_NAME}/{kind}SharedMemory{verb}")(b"")
                    assert (await code_of(call))[0] is Code.UNIMPLEMENTED

    asyncio.run(run())


def test_an_error_on_a_stream_leaves_it_open_and_names_its_request(serve: Serve) -> None:
    async def run() -> None:
        async with serve() as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stream = stub_on(channel).ModelStreamInfer()
            for number, (apply, _, _) in enumerate(ANSWERS.values()):
                request = message()
                request.id = str(number)
                apply(request)
                await stream.write(request)
            await stream.done_writing()
            answers = [answer async for answer in stream]
            assert len(answers) == len(ANSWERS)
            for number, (answer, (_, code, sentence)) in enumerate(
                zip(answers, ANSWERS.values(), strict=True)
            ):
                assert answer.infer_response.id == str(number)
                assert bool(answer.error_message) == (code is not Code.OK)
                assert sentence in answer.error_message
            assert await stream.code() is Code.OK

    asyncio.run(run())


def test_without_an_instance_nothing_is_ready(serve: Serve) -> None:
    async def run() -> None:
        async with serve(instances=0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            assert (await stub.ServerLive(pb.ServerLiveRequest())).live
            assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
            assert not (await stub.ModelReady(pb.ModelReadyRequest(name="linear"))).ready
            (model,) = (await stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
            assert (model.state, model.reason) == ("UNAVAILABLE", "no instance takes requests")
            assert not (await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models

    asyncio.run(run())


def test_an_unloaded_model_refuses_what_is_new_answers_what_was_accepted_and_comes_back(
    serve: Serve,
) -> None:
    async def run() -> None:
        async with serve(hold_s=0.2) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            control = grpc.aio.server()
            RepositoryService(plane.endpoint.model, plane.dispatcher).add_to(control)
            port = control.add_insecure_port("127.0.0.1:0")
            await control.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as control_channel:
                repository = stub_on(control_channel)
                accepted = asyncio.create_task(code_of(stub.ModelInfer(message())))
                async with asyncio.timeout(5):
                    while not plane.dispatcher.open:
                        await asyncio.sleep(0.005)
                await repository.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="linear"))
                assert await code_of(stub.ModelInfer(message())) == (
                    Code.UNAVAILABLE,
                    "the model is unloaded and has no available versions",
                )
                assert not (await stub.ModelReady(pb.ModelReadyRequest(name="linear"))).ready
                (model,) = (await repository.RepositoryIndex(pb.RepositoryIndexRequest())).models
                assert (model.state, model.reason) == ("UNAVAILABLE", "unloaded")
                assert (await accepted)[0] is Code.OK
                foreign = pb.RepositoryModelLoadRequest(model_name="x")
                assert await code_of(repository.RepositoryModelLoad(foreign)) == NOT_FOUND
                with_files = pb.RepositoryModelLoadRequest(model_name="linear")
                with_files.parameters["file:1/model.onnx"].bytes_param = b"x"
                assert (await code_of(repository.RepositoryModelLoad(with_files)))[0] is INVALID
                await repository.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="linear"))
                assert (await code_of(stub.ModelInfer(message())))[0] is Code.OK
                refused = [r.outcome for r in plane.completed].count(RequestOutcome.REJECTED)
                assert (refused, plane.dispatcher.arrived) == (1, 3)
            await control.stop(0)

    asyncio.run(run())


def test_a_model_that_fails_is_internal_and_goes_on_serving(serve: Serve, package: Path) -> None:
    async def run() -> None:
        moody = ModelDefinition.of(None, "moody", where="test")
        async with serve(model=moody) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            request = message()
            request.raw_input_contents[0] = (ROWS - 100.0).tobytes()
            code, details = await code_of(stub.ModelInfer(request))
            assert (code, plane.completed[-1].outcome) == (Code.INTERNAL, RequestOutcome.FAILED)
            assert "KeyError" in details
            assert "secret" not in details
            assert (await stub.ModelInfer(message())).id == "42"
            assert [status.restarts for status in plane.pool.status()] == [0]

    asyncio.run(run())


def test_a_request_whose_instances_die_under_it_twice_is_unavailable(serve: Serve) -> None:
    async def run() -> None:
        async with serve(hold_s=30.0) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            call = asyncio.create_task(code_of(stub_on(channel).ModelInfer(message())))
            killed: set[int | None] = {None}
            async with asyncio.timeout(30.0):
                while len(killed) < 3:
                    (pid,) = (status.pid for status in plane.pool.status())
                    if plane.dispatcher.router.serving and pid is not None and pid not in killed:
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
                    await asyncio.sleep(0.01)
                code, details = await call
            assert code is Code.UNAVAILABLE
            assert "died" in details

    asyncio.run(run())
