"""The model repository: its index for every port, and loading and unloading for the control port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import grpc

from clover_rl.errors import InputError
from clover_rl.serving.endpoint.served_model import ServedModel, UnknownModelError
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import Dispatcher

__all__ = ["RepositoryService", "repository_index"]

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


def repository_index(
    model: ServedModel, dispatcher: Dispatcher, *, ready_only: bool
) -> pb.RepositoryIndexResponse:
    """The one model there is, with its state; nothing when only ready ones are asked for and it is not."""
    response = pb.RepositoryIndexResponse()
    if dispatcher.ready or not ready_only:
        state, reason = "READY", ""
        if not dispatcher.ready:
            state = "UNAVAILABLE"
            reason = "no instance takes requests" if dispatcher.loaded else "unloaded"
        response.models.add(name=model.name, version=model.version, state=state, reason=reason)
    return response


class RepositoryService:
    """RepositoryIndex, RepositoryModelLoad and RepositoryModelUnload of the protocol, for the control port.

    Unloading takes the application out of service: readiness turns false, new requests are refused with
    UNAVAILABLE, those accepted are answered. The cluster stays as it is and under its controller, so loading
    brings the service back at once. Models and files never come in by this way.

    Args:
        model: what is served.
        dispatcher: who answers.
    """

    def __init__(self, model: ServedModel, dispatcher: Dispatcher) -> None:
        self._model, self._dispatcher = model, dispatcher

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer these methods on a server."""
        service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        handlers = {}
        for method in service.methods:
            call = getattr(self, method.name, None)
            if call is not None:
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                    call,
                    getattr(pb, method.input_type.name).FromString,
                    getattr(pb, method.output_type.name).SerializeToString,
                )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: _Context
    ) -> pb.RepositoryIndexResponse:
        """The one model there is."""
        return repository_index(self._model, self._dispatcher, ready_only=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: _Context
    ) -> pb.RepositoryModelLoadResponse:
        """Back into service; at once when it is there."""
        await self._set_loaded(True, request.model_name, request.parameters, context)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: _Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Out of service; what was accepted is answered."""
        await self._set_loaded(False, request.model_name, request.parameters, context)
        return pb.RepositoryModelUnloadResponse()

    async def _set_loaded(
        self, loaded: bool, name: str, parameters: Mapping[str, Any], context: _Context
    ) -> None:
        try:
            self._model.require(name, "")
            if loaded and parameters:
                raise InputError("a model is loaded as its application defines it; parameters are not taken")
        except UnknownModelError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, error.what)
        except InputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.what)
        self._dispatcher.set_loaded(loaded)
