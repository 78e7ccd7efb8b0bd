"""DataPlane: the Open Inference Protocol over gRPC, in front of a dispatcher."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message

from clover_rl import __version__
from clover_rl.errors import CloverError, InputError, ServingError
from clover_rl.serving.endpoint.health import HealthService, enable_reflection
from clover_rl.serving.endpoint.repository import repository_index
from clover_rl.serving.endpoint.request_log import RequestLog, shortened
from clover_rl.serving.endpoint.request_reader import RequestReader, parse
from clover_rl.serving.endpoint.response_writer import FINAL_RESPONSE, ResponseWriter, length
from clover_rl.serving.endpoint.served_model import ServedModel, UnknownModelError
from clover_rl.serving.endpoint.statistics import ModelStatistics
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import (
    DeadlineError,
    Dispatcher,
    DrainingError,
    InstanceLostError,
    RequestOutcome,
    UnloadedError,
)
from clover_rl.serving.routing.router import QueueFullError

__all__ = ["SERVICE_NAME", "CarbonEstimate", "DataPlane", "DataPlaneSettings", "listen"]

_LOG = logging.getLogger(__name__)
_EXTENSIONS = ("model_configuration", "statistics")

_NOT_HERE = "this port serves requests only; which variants are loaded is decided on the control port"

SERVICE_NAME = "inference.GRPCInferenceService"

CarbonEstimate: TypeAlias = Callable[[str, str], tuple[float, str]]
"""(variant, instance) -> estimated gCO2 of one request there now, and the kind of that estimate."""

_FINAL_FLAG = "triton_enable_empty_final_response"

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class _NotHereError(ServingError):
    """A method of the protocol that this port does not offer."""


@dataclass(frozen=True, slots=True)
class DataPlaneSettings:
    """How the endpoint behaves.

    Attributes:
        max_message_bytes: largest message in either direction; larger ones are RESOURCE_EXHAUSTED.
        full_is_unavailable: answer UNAVAILABLE when the queue is full, as Triton does.
        stream_window: requests of one stream that may be open at once; the stream is not read further then.
        log_answers: log every answered request, not only those that failed.
    """

    max_message_bytes: int = 64 << 20
    full_is_unavailable: bool = False
    stream_window: int = 64
    log_answers: bool = False


class DataPlane:
    """The endpoint that applications see.

    Each method of the protocol takes its message and returns the answer, or raises one of our errors; what
    the client is told is decided in one place, `_status`.

    Args:
        model: what it serves.
        dispatcher: who answers.
        settings: how it behaves.
        carbon: estimates for the answers; without it they carry none.
    """

    def __init__(
        self,
        model: ServedModel,
        dispatcher: Dispatcher,
        *,
        settings: DataPlaneSettings | None = None,
        carbon: CarbonEstimate | None = None,
    ) -> None:
        self.model = model
        self.statistics = ModelStatistics()
        self._dispatcher = dispatcher
        self._settings = settings or DataPlaneSettings()
        self._carbon = carbon
        self._log = RequestLog(answers=self._settings.log_answers)
        self._health = HealthService([SERVICE_NAME, model.name])
        self._metadata = model.metadata()
        self._config = model.config()
        self._reader = RequestReader(model)
        self._writer = ResponseWriter(model)
        self._streams: set[asyncio.Task[None]] = set()
        self._server: grpc.aio.Server | None = None
        dispatcher.on_change(lambda: self._health.set_serving(dispatcher.ready))

    # --- life

    async def start(self, address: str) -> int:
        """Listen on `host:port` (port 0: any free one) and return the port.

        Raises:
            ServingError: the address is in use or cannot be listened on.
        """
        size = self._settings.max_message_bytes
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", size),
            ]
        )
        server.add_generic_rpc_handlers((self._handlers(),))
        self._health.add_to(server)
        enable_reflection(server, [pb.DESCRIPTOR])
        port = await listen(server, address)
        self._health.set_serving(self._dispatcher.ready)
        self._server = server
        return port

    async def drain(self, grace_s: float) -> bool:
        """Refuse new requests, wait until those accepted are answered; False when `grace_s` is too short."""
        self._dispatcher.stop_accepting()
        try:
            await asyncio.wait_for(self._dispatcher.empty(), grace_s)
        except TimeoutError:
            return False
        return True

    async def stop(self, grace_s: float = 1.0) -> None:
        """Close the port and every stream; calls that are still open get `grace_s` to end."""
        server, self._server = self._server, None
        self._dispatcher.stop_accepting()
        self._health.close()
        for reader in self._streams:
            reader.cancel()
        if server is not None:
            await server.stop(grace_s)

    # --- about the server

    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the process answers: it does."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether requests are accepted and an instance takes them."""
        return pb.ServerReadyResponse(ready=self._dispatcher.ready)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name, version and extensions."""
        return pb.ServerMetadataResponse(name="clover-rl", version=__version__, extensions=_EXTENSIONS)

    # --- about the model

    async def ModelReady(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether the model can be used; false for one that is not here."""
        known = self.model.is_known(request.name, request.version)
        return pb.ModelReadyResponse(ready=known and self._dispatcher.ready)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """The signature."""
        self.model.require(request.name, request.version)
        return self._metadata

    async def ModelConfig(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The signature and batch size, as load generators want them."""
        self.model.require(request.name, request.version)
        return self._config

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Counts and times since the server started."""
        if request.name and not self.model.is_known(request.name, request.version):
            raise InputError(f"requested model '{request.name}' is not available")
        statistics = self.statistics.message(self.model.name, self.model.version)
        return pb.ModelStatisticsResponse(model_stats=[statistics])

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """The one model there is."""
        return repository_index(self.model, self._dispatcher, ready_only=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest
    ) -> pb.RepositoryModelLoadResponse:
        """Not on this port."""
        raise _NotHereError(_NOT_HERE)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Not on this port."""
        raise _NotHereError(_NOT_HERE)

    # --- inference

    async def ModelInfer(
        self, data: bytes, remaining_s: float | None = None, *, on_stream: bool = False
    ) -> bytes:
        """Answer one request, bytes in and bytes out.

        Args:
            data: the serialised request.
            remaining_s: what its caller's own deadline leaves, s.
            on_stream: say that the answer is the last one of its request, where the client asks for it.
        """
        began_ns = time.monotonic_ns()
        dispatcher = self._dispatcher
        try:
            if dispatcher.draining or not dispatcher.loaded:
                raise dispatcher.refusal()
            try:
                parsed = self._reader.read(data)
            except CloverError:
                dispatcher.refuse(RequestOutcome.INVALID, "invalid")
                raise
            # gRPC itself ends a call at its own deadline; only the request's `timeout` needs a timer here.
            deadline_s = None
            if remaining_s is not None or parsed.timeout_s is not None:
                allowed = [limit for limit in (parsed.timeout_s, remaining_s) if limit is not None]
                deadline_s = dispatcher.clock.now() + min(allowed)
            answer = await dispatcher.infer(
                parsed.tensors,
                deadline_s=deadline_s,
                enforce=parsed.timeout_s is not None,
                size_bytes=parsed.size_bytes,
            )
        except BaseException as error:
            took_ns = time.monotonic_ns() - began_ns
            if not isinstance(error, UnknownModelError):  # the statistics are this model's
                self.statistics.failure(took_ns)
            if isinstance(error, Exception):
                code, sentence = self._status(error)
                if self._log.failed(_id_of(data), code.name, sentence, took_ns / 1e9):
                    _surprise(error)
            elif isinstance(error, asyncio.CancelledError):
                sentence = "its client went away, or its deadline passed"
                self._log.failed(_id_of(data), "CANCELLED", sentence, took_ns / 1e9)
            raise
        carbon = self._carbon(answer.variant, answer.instance) if self._carbon else None
        response = self._writer.write(parsed.id, answer, parsed.wanted, carbon)
        took_ns = time.monotonic_ns() - began_ns
        self.statistics.answered(answer, parsed.rows, took_ns)
        if self._log.answers:
            self._log.answered(parsed.id.decode(), answer, took_ns / 1e9)
        return response + FINAL_RESPONSE if on_stream and parsed.final_flag else response

    async def ModelStreamInfer(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        """Answer the requests of a stream in their order, several at once; an error leaves it open."""
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(self._settings.stream_window)
        reader = asyncio.create_task(self._read_stream(requests, answers))
        self._streams.add(reader)
        try:
            while (answer := await answers.get()) is not None:
                await context.write(await answer)
        finally:
            self._streams.discard(reader)
            reader.cancel()
            unfinished: list[asyncio.Task[Any]] = [reader]
            while not answers.empty():
                if (answer := answers.get_nowait()) is not None:
                    answer.cancel()
                    unfinished.append(answer)
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _read_stream(
        self,
        requests: AsyncIterator[bytes],
        answers: asyncio.Queue[asyncio.Task[bytes] | None],
    ) -> None:
        try:
            async for data in requests:
                answer = asyncio.create_task(self._answer_on_stream(data))
                try:
                    await answers.put(answer)
                except asyncio.CancelledError:
                    answer.cancel()  # it is in nobody's hands but ours
                    raise
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await answers.put(None)

    async def _answer_on_stream(self, data: bytes) -> bytes:
        try:
            answer = await self.ModelInfer(data, on_stream=True)
        except Exception as error:
            failed = pb.ModelStreamInferResponse(error_message=self._status(error)[1])
            failed.infer_response.MergeFromString(_of_failed(data))
            return failed.SerializeToString()
        return b"".join((b"\x12", length(len(answer)), answer))  # field 2, infer_response

    # --- between gRPC and the methods above

    def _handlers(self) -> grpc.GenericRpcHandler:
        """Every method of the service; parsed by us, as gRPC calls a message it cannot read INTERNAL."""
        handlers: dict[str, Any] = {}
        for method in pb.DESCRIPTOR.services_by_name[SERVICE_NAME.rpartition(".")[2]].methods:
            handler: Any
            if method.server_streaming:
                handler = grpc.stream_stream_rpc_method_handler(self.ModelStreamInfer)
            elif method.name == "ModelInfer":
                handler = grpc.unary_unary_rpc_method_handler(self._infer)
            else:
                call = self._unary(getattr(self, method.name), getattr(pb, method.input_type.name))
                serialize = getattr(pb, method.output_type.name).SerializeToString
                handler = grpc.unary_unary_rpc_method_handler(call, None, serialize)
            handlers[method.name] = handler
        return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)

    async def _infer(self, data: bytes, context: _Context) -> bytes:
        try:
            return await self.ModelInfer(data, context.time_remaining())
        except Exception as error:
            await context.abort(*self._status(error))
            raise

    def _unary(
        self, method: Callable[[Any], Awaitable[Message]], request_class: type[Message]
    ) -> Callable[[bytes, _Context], Awaitable[Message]]:
        async def call(data: bytes, context: _Context) -> Message:
            try:
                return await method(parse(request_class(), data))
            except Exception as error:
                _surprise(error)
                await context.abort(*self._status(error))
                raise

        return call

    def _status(self, error: Exception) -> tuple[grpc.StatusCode, str]:
        """Code and sentence for an error; nothing of this machine's inside is told.

        Sentences repeat what the client sent: they are shortened, since a client that gets more metadata than
        it allows sees RESOURCE_EXHAUSTED in place of the code.
        """
        code, sentence = self._told(error)
        return code, shortened(sentence)

    def _told(self, error: Exception) -> tuple[grpc.StatusCode, str]:
        match error:
            case UnknownModelError():
                return grpc.StatusCode.NOT_FOUND, error.what
            case InputError():
                return grpc.StatusCode.INVALID_ARGUMENT, error.what
            case QueueFullError():
                if self._settings.full_is_unavailable:
                    return grpc.StatusCode.UNAVAILABLE, error.what
                return grpc.StatusCode.RESOURCE_EXHAUSTED, error.what
            case DeadlineError():
                return grpc.StatusCode.DEADLINE_EXCEEDED, error.what
            case _NotHereError():
                return grpc.StatusCode.UNIMPLEMENTED, error.what
            case DrainingError() | UnloadedError() | InstanceLostError():
                return grpc.StatusCode.UNAVAILABLE, error.what
            case ServingError():
                return grpc.StatusCode.INTERNAL, error.what
            case _:
                return grpc.StatusCode.INTERNAL, "the server failed; its log says why"


def _surprise(error: Exception) -> None:
    """Log what should not have happened in full; clients are not told."""
    if not isinstance(error, CloverError):
        _LOG.error("a request failed unexpectedly", exc_info=error)


def _id_of(data: bytes) -> str:
    """The id that a request bears, as far as it can be read."""
    request = pb.ModelInferRequest()
    with contextlib.suppress(InputError):
        parse(request, data)
    return request.id


def _of_failed(data: bytes) -> bytes:
    """What an answer on a stream says of a request that failed: its id, and whether that was all."""
    request = pb.ModelInferRequest()
    with contextlib.suppress(InputError):
        parse(request, data)
    last = _FINAL_FLAG in request.parameters and request.parameters[_FINAL_FLAG].bool_param
    return pb.ModelInferResponse(id=request.id).SerializeToString() + (FINAL_RESPONSE if last else b"")


async def listen(
    server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Bind a server to `host:port` and start it; returns the port.

    Args:
        server: not started yet.
        address: to listen on.
        credentials: for TLS; None for none.

    Raises:
        ServingError: the address is in use or cannot be listened on.
    """
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        await server.stop(None)
        raise ServingError(
            "the port is in use or cannot be listened on",
            where=address,
            fix="choose another with its option, or stop what uses it",
        ) from error
    await server.start()
    return port
