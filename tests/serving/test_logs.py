"""Logs: one event a line that a machine can read, and that nobody can forge or flood."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import grpc
import pytest

from clover_rl.serving.endpoint.dataplane import DataPlaneSettings
from clover_rl.serving.endpoint.request_log import RequestLog
from clover_rl.serving.logs import JsonFormatter, TextFormatter, event
from tests.serving.endpoint.clients import code_of, message, stub_on
from tests.serving.serving_kit import Serve


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the package logs, in either style."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(request.param())
    logger = logging.getLogger("clover_rl")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_an_event_is_one_line_whatever_a_client_sent(lines: io.StringIO) -> None:
    logger = logging.getLogger("clover_rl.test")
    event(logger, logging.INFO, "it happened", request='a"\nlevel=error', ms=1.5, nothing=None)
    (line,) = lines.getvalue().splitlines()
    if line.startswith("{"):
        found = json.loads(line)
        assert (found["message"], found["request"]) == ("it happened", 'a"\nlevel=error')
        assert (found["level"], found["logger"], found["ms"]) == ("info", "clover_rl.test", 1.5)
        assert found["time"].endswith("Z")
        assert "nothing" not in found
    else:
        assert line.endswith('clover_rl.test: it happened request="a\\"\\nlevel=error" ms=1.500')


def test_failed_requests_are_logged_by_their_id_and_answers_on_demand(
    serve: Serve, lines: io.StringIO
) -> None:
    async def run(log_answers: bool) -> list[str]:
        lines.truncate(0)
        lines.seek(0)
        settings = DataPlaneSettings(log_answers=log_answers)
        async with serve(settings=settings) as plane, grpc.aio.insecure_channel(plane.address) as channel:
            stub = stub_on(channel)
            await stub.ModelInfer(message())
            wrong = message()
            wrong.id, wrong.model_name = "wrong-7", "x"
            await code_of(stub.ModelInfer(wrong))
            return [line for line in lines.getvalue().splitlines() if "request " in line]

    (failed,) = asyncio.run(run(log_answers=False))
    assert "wrong-7" in failed
    assert "NOT_FOUND" in failed
    answered, _ = asyncio.run(run(log_answers=True))
    assert "42" in answered
    assert "only" in answered
    assert "i0" in answered


def test_a_flood_of_failures_is_counted_not_written(lines: io.StringIO) -> None:
    now = 5.0
    log = RequestLog(most_per_s=3, now_s=lambda: now)
    for number in range(100):
        log.failed(str(number), "INVALID_ARGUMENT", "wrong", 0.001)
    assert len(lines.getvalue().splitlines()) == 3
    now = 6.0
    log.failed("later", "INVALID_ARGUMENT", "wrong", 0.001)
    assert "97" in lines.getvalue().splitlines()[-1]
