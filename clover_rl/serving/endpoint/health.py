"""Health and reflection: what orchestrators and generic clients ask any gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

__all__ = ["HealthService", "enable_reflection"]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1.Health: Check answers at once, Watch sends every change to each of its callers.

    Args:
        services: names that can be asked for, besides the whole server (the empty name).
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._status = dict.fromkeys(("", *services), _NOT_SERVING)
        self._watchers: set[asyncio.Event] = set()
        self._closed = False

    def set_serving(self, serving: bool) -> None:
        """Change the status of the server and all its services."""
        status = _SERVING if serving else _NOT_SERVING
        if any(old != status for old in self._status.values()):
            self._status = dict.fromkeys(self._status, status)
            self._wake()

    def close(self) -> None:
        """End every watch, so that it does not keep the server from stopping."""
        self._closed = True
        self._wake()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer this service on a server."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def Check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """The present status; NOT_FOUND for a service that is not here."""
        status = self._status.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service '{request.service}' is not offered here")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """The present status, then each new one."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        sent = None
        try:
            while not self._closed:
                changed.clear()
                status = self._status.get(request.service, _UNKNOWN)
                if status != sent:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    sent = status
                else:
                    await changed.wait()
        finally:
            self._watchers.discard(changed)

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.set()


def enable_reflection(server: grpc.aio.Server, files: Iterable[FileDescriptor]) -> None:
    """Offer server reflection for the services of these files, health and reflection itself."""
    pool = DescriptorPool()
    services = []
    for file in (*files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
        services += [service.full_name for service in file.services_by_name.values()]
    reflection.enable_server_reflection(services, server, pool=pool)
