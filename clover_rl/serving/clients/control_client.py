"""ControlClient: the control plane from outside, with our errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from clover_rl.errors import InputError, ServingError
from clover_rl.serving.access import is_loopback
from clover_rl.serving.protocol import control_pb2 as pb
from clover_rl.serving.protocol import control_pb2_grpc as rpc

__all__ = ["ControlClient"]

_CHUNK = 1 << 20


ACTIVATION_S = 900.0
"""Twelve days of a scenario are simulated ten times where a margin was never tuned (docs/evaluation.md)."""


class ControlClient:
    """A connection to a server's control port.

    Args:
        address: HOST:PORT.
        timeout_s: of each call.
        token: that each call bears; None for none.
        ca: PEM file of who signed the server's certificate; with it, TLS is used.

    Raises:
        InputError: the file cannot be read, or the token would go over the network in the clear.
    """

    def __init__(
        self, address: str, *, timeout_s: float = 60.0, token: str | None = None, ca: Path | None = None
    ) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self._secure = ca is not None
        if ca is not None:
            self._channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(_content(ca)))
        else:
            if token is not None and not is_loopback(address.rpartition(":")[0]):
                raise InputError(
                    "a token is not sent over the network in the clear", where=address, fix="give --ca"
                )
            self._channel = grpc.insecure_channel(address)
        self._stub = rpc.ControlServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def status(self) -> pb.StatusResponse:
        """What the server does now."""
        found: pb.StatusResponse = self._call(self._stub.Status, pb.StatusRequest())
        return found

    def deploy(self, content: bytes) -> pb.ActivationResponse:
        """Upload a bundle and put it in charge."""
        chunks = (pb.DeployRequest(chunk=content[at : at + _CHUNK]) for at in range(0, len(content), _CHUNK))
        found: pb.ActivationResponse = self._call(self._stub.Deploy, chunks)
        return found

    def activate(self, controller: str) -> pb.ActivationResponse:
        """Put a built-in controller in charge; one whose margin was never tuned here takes minutes."""
        found: pb.ActivationResponse = self._call(
            self._stub.Activate, pb.ActivateRequest(controller=controller), timeout_s=ACTIVATION_S
        )
        return found

    def rollback(self) -> pb.ActivationResponse:
        """Put the controller before back in charge."""
        found: pb.ActivationResponse = self._call(
            self._stub.Rollback, pb.RollbackRequest(), timeout_s=ACTIVATION_S
        )
        return found

    def intervals(self, limit: int = 0) -> list[pb.Interval]:
        """Completed intervals, latest last; all with limit 0."""
        found: pb.IntervalsResponse = self._call(self._stub.Intervals, pb.IntervalsRequest(limit=limit))
        return list(found.intervals)

    def _call(self, call: Callable[..., Any], request: object, *, timeout_s: float | None = None) -> Any:
        """Make a call.

        Raises:
            ServingError: with the server's own sentence, or that it cannot be reached.
        """
        try:
            return call(request, timeout=timeout_s or self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code == grpc.StatusCode.UNAVAILABLE:
                how = "that --ca signed its certificate" if self._secure else "--ca where it has TLS"
                raise ServingError(
                    "no server answers there", where=self.address, fix=f"check --to, that it runs, and {how}"
                ) from None
            if code == grpc.StatusCode.UNAUTHENTICATED:
                raise ServingError(
                    details or code.name,
                    where=self.address,
                    fix="give it with --token-file or in $CLOVER_RL_CONTROL_TOKEN",
                ) from None
            if code == grpc.StatusCode.UNIMPLEMENTED:
                raise ServingError(
                    "that is not a control port", where=self.address, fix="use the server's control port"
                ) from None
            raise ServingError(details or code.name, where=self.address) from None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
