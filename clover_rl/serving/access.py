"""Access to the control port: where it listens, who may call, and what nobody may read on the way."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc

from clover_rl.errors import InputError

__all__ = ["TOKEN_VARIABLE", "ControlAccess", "TokenCheck", "host_and_port", "is_loopback", "read_token"]

TOKEN_VARIABLE = "CLOVER_RL_CONTROL_TOKEN"
SHORTEST_TOKEN = 16
_HEADER, _SCHEME = "authorization", "Bearer "


def read_token(file: Path | None) -> str | None:
    """The token in a file, else in $CLOVER_RL_CONTROL_TOKEN; None where there is neither.

    Raises:
        InputError: the file cannot be read, or what it holds is too short or no printable ASCII.
    """
    where = f"${TOKEN_VARIABLE}" if file is None else str(file)
    if file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            return None
    else:
        token = _content(file).decode("ascii", "replace").strip()
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise InputError(
            f"a token has {SHORTEST_TOKEN} printable ASCII characters or more, and no spaces",
            where=where,
            fix="make one with: openssl rand -hex 32",
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether nobody on another machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_and_port(host: str, port: int) -> str:
    """HOST:PORT, as gRPC takes it: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class ControlAccess:
    """How a control port is opened.

    Attributes:
        host: address to listen on.
        token: that every call must bear; None for none.
        certificate, key: PEM files of the server; both or neither.

    Raises:
        InputError: an address that others can reach without both a token and TLS, or half of a pair of files.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError(
                "a certificate and its key go together", fix="give both --control-cert and --control-key"
            )
        if not is_loopback(self.host) and (self.token is None or self.certificate is None):
            raise InputError(
                "a control port that other machines can reach needs a token and TLS",
                where=self.host,
                fix="give --control-token-file, --control-cert and --control-key, or stay on 127.0.0.1",
            )

    def address(self, port: int) -> str:
        """HOST:PORT, as gRPC takes it."""
        return host_and_port(self.host, port)

    def credentials(self) -> grpc.ServerCredentials | None:
        """Of the server; None without TLS.

        Raises:
            InputError: a file cannot be read.
        """
        if self.certificate is None or self.key is None:
            return None
        return grpc.ssl_server_credentials([(_content(self.key), _content(self.certificate))])

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What stands before every call."""
        return [] if self.token is None else [TokenCheck(self.token)]


class TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses, as UNAUTHENTICATED, calls that do not bear `authorization: Bearer TOKEN`.

    Args:
        token: what they must bear.
    """

    def __init__(self, token: str) -> None:
        self._wanted = f"{_SCHEME}{token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The method called for, or a refusal of the same kind."""
        metadata = handler_call_details.invocation_metadata or ()
        given = next((value for key, value in metadata if key == _HEADER), "")
        found = given if isinstance(given, bytes) else given.encode()
        handler = await continuation(handler_call_details)
        # however much of the token is right, the comparison takes as long
        if handler is None or hmac.compare_digest(found, self._wanted):
            return handler
        if handler.response_streaming:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(_refuse_stream)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(_refuse)
        return grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this control port wants its token")


async def _refuse_stream(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
    await _refuse(None, context)
    yield  # a streaming handler is a generator


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
