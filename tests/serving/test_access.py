"""The control port: its token is wanted, TLS hides it, and nobody else's machine gets in without both."""

from __future__ import annotations

import asyncio
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from clover_rl.errors import InputError, ServingError
from clover_rl.serving.access import TOKEN_VARIABLE, ControlAccess, read_token
from clover_rl.serving.clients.control_client import ControlClient
from clover_rl.serving.endpoint.dataplane import listen
from clover_rl.serving.endpoint.health import enable_reflection
from clover_rl.serving.protocol import control_pb2 as pb
from clover_rl.serving.protocol import control_pb2_grpc as rpc
from tests.cli.process import run_cli

TOKEN, OTHER = "a" * 32, "a" * 31 + "b"


class Service(rpc.ControlServiceServicer):
    """Says who it is, and counts what it was sent."""

    async def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        return pb.StatusResponse(scenario="here")

    async def Deploy(self, requests: Any, context: Any) -> pb.ActivationResponse:
        size = sum([len(request.chunk) async for request in requests])
        return pb.ActivationResponse(controller=str(size))


@asynccontextmanager
async def opened(access: ControlAccess) -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=access.interceptors())
    rpc.add_ControlServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    enable_reflection(server, [pb.DESCRIPTOR])
    port = await listen(server, access.address(0), access.credentials())
    yield f"localhost:{port}"
    await server.stop(0.2)


def called(access: ControlAccess, call: Callable[[str], Any]) -> Any:
    """What a client gets from a server with that access."""

    async def both() -> Any:
        async with opened(access) as address:
            return await asyncio.to_thread(call, address)

    return asyncio.run(both())


def status(address: str, **options: Any) -> str:
    with ControlClient(address, timeout_s=5.0, **options) as client:
        return client.status().scenario


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signed itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_without_a_token_on_loopback_anybody_may_call() -> None:
    assert called(ControlAccess(), status) == "here"


def test_a_call_with_the_token_is_answered_and_any_other_is_not() -> None:
    access = ControlAccess(token=TOKEN)
    assert called(access, lambda address: status(address, token=TOKEN)) == "here"
    for options in ({}, {"token": OTHER}, {"token": TOKEN + "a"}):
        with pytest.raises(ServingError, match="wants its token; give it with --token-file"):
            called(access, lambda address, options=options: status(address, **options))


def test_an_upload_without_the_token_is_refused_before_it_is_read() -> None:
    def deploy(address: str) -> None:
        with ControlClient(address, token=OTHER) as client:
            client.deploy(bytes(3 << 20))

    with pytest.raises(ServingError, match="wants its token"):
        called(ControlAccess(token=TOKEN), deploy)


def test_reflection_wants_the_token_too() -> None:
    async def ask() -> grpc.StatusCode:
        async with (
            opened(ControlAccess(token=TOKEN)) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = stub.ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            code: Awaitable[grpc.StatusCode] = call.code()
            return await code

    assert asyncio.run(ask()) is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_is_not_part_of_what_is_printed() -> None:
    assert TOKEN not in repr(ControlAccess(token=TOKEN))


def test_tls_answers_who_trusts_its_certificate_and_nobody_else(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    access = ControlAccess(token=TOKEN, certificate=certificate, key=key)
    assert called(access, lambda address: status(address, token=TOKEN, ca=certificate)) == "here"
    with pytest.raises(ServingError, match="wants its token"):
        called(access, lambda address: status(address, ca=certificate))
    with pytest.raises(ServingError, match="--ca where it has TLS"):
        called(access, lambda address: status(address, token=TOKEN))


def test_other_machines_get_in_with_both_only(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    assert ControlAccess("0.0.0.0", TOKEN, certificate, key).address(8002) == "0.0.0.0:8002"
    assert ControlAccess("::1").address(0) == "[::1]:0"
    for host, token, cert, private in (
        ("0.0.0.0", None, None, None),
        ("0.0.0.0", TOKEN, None, None),
        ("10.0.0.1", None, certificate, key),
        ("::", TOKEN, None, None),
        ("control.example.org", TOKEN, None, None),
    ):
        with pytest.raises(InputError, match="needs a token and TLS"):
            ControlAccess(host, token, cert, private)
    with pytest.raises(InputError, match="go together"):
        ControlAccess(certificate=certificate)


def test_a_certificate_that_is_none_is_said_so(tmp_path: Path) -> None:
    no = tmp_path / "no.pem"
    with pytest.raises(InputError, match=r"no\.pem: cannot be read"):
        ControlAccess(certificate=no, key=no).credentials()


def test_a_token_never_leaves_the_machine_in_the_clear() -> None:
    with pytest.raises(InputError, match="in the clear; give --ca"):
        ControlClient("control.example.org:8002", token=TOKEN)


def test_the_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None) is None
    monkeypatch.setenv(TOKEN_VARIABLE, OTHER)
    assert read_token(None) == OTHER
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(stat.S_IRUSR)
    assert read_token(file) == TOKEN
    for content in ("short", "two words and more than sixteen", "ümlautümlautümlaut"):
        other = tmp_path / "other"
        other.write_text(content)
        with pytest.raises(InputError, match="16 printable ASCII"):
            read_token(other)


def test_serve_refuses_an_open_control_port_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    done = run_cli("serve", "demo", "--control-host=0.0.0.0")
    assert done.returncode != 0
    assert "a control port that other machines can reach needs a token and TLS" in done.stderr
    assert "Traceback" not in done.stderr
