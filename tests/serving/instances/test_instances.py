"""Instances: real processes that load, answer, hold, die, come back, and never outlive their server."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.clock import RealClock
from clover_rl.serving.instances.pool import InstancePool, InstanceSpec, InstanceState
from clover_rl.serving.routing.dispatcher import (
    CompletedRequest,
    DeadlineError,
    Dispatcher,
    InstanceLostError,
    RequestOutcome,
)
from clover_rl.serving.routing.router import QueueFullError
from clover_rl.serving.worker.definition import ModelDefinition
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.tensors import decode_bytes, encode_bytes
from tests.serving.processes import gone, until
from tests.serving.serving_kit import FEATURES, INPUTS, OUTPUTS, QUICK, WEIGHTS

ROW = np.linspace(-1.0, 2.0, FEATURES, dtype=np.float32).reshape(1, FEATURES)
REQUEST = (Tensor(ROW.shape, ROW.tobytes()),)


def pool_of(dispatcher: Dispatcher) -> InstancePool:
    return InstancePool(dispatcher, inputs=INPUTS, outputs=OUTPUTS, settings=QUICK)


def run_with_pool(body: Callable[[Dispatcher, InstancePool], Awaitable[None]]) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(RealClock())
        pool = pool_of(dispatcher)
        try:
            async with asyncio.timeout(20):
                await body(dispatcher, pool)
        finally:
            await pool.close()

    asyncio.run(run())


def test_answers_are_the_models_and_take_the_device_time(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.05, 0)})
        began = time.monotonic()
        answer = await dispatcher.infer(REQUEST)
        assert 0.05 <= time.monotonic() - began < 0.15
        assert 49e6 <= answer.input_ns + answer.compute_ns <= 80e6
        assert answer.queue_ns < 20e6
        scores = np.frombuffer(answer.tensors[0].data, np.float32).reshape(answer.tensors[0].shape)
        np.testing.assert_allclose(scores, ROW @ WEIGHTS, rtol=1e-5)
        assert (answer.variant, answer.instance) == ("v", "a")

    run_with_pool(body)


def test_text_and_integers_pass_through(text_model: ModelDefinition) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(RealClock())
        pool = InstancePool(dispatcher, settings=QUICK)
        try:
            await pool.reconcile({"a": InstanceSpec("v", text_model, 0.0, 0)})
            words = [b"", b"gr\xc3\xbcn", b"x" * 70_000]
            counts = np.array([[1, -2], [3, 4], [5, 32767]], np.int16)
            answer = await dispatcher.infer(
                (Tensor((3,), encode_bytes(words)), Tensor((3, 2), counts.tobytes()))
            )
            assert decode_bytes(answer.tensors[0].data) == words
            assert np.frombuffer(answer.tensors[1].data, np.int16).tolist() == (-counts).ravel().tolist()
        finally:
            await pool.close()

    asyncio.run(run())


def test_a_bad_input_fails_alone(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.0, 0)})
        with pytest.raises(InputError, match="cannot take this input"):
            await dispatcher.infer((Tensor((1, 2), b"\0" * 8),))
        assert (await dispatcher.infer(REQUEST)).instance == "a"

    run_with_pool(body)


def test_a_model_that_cannot_be_loaded_is_an_error_without_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")

    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        with pytest.raises(ServingError, match="cannot load the model") as caught:
            await pool.load("a", InstanceSpec("v", ModelDefinition.onnx(broken), 0.0, 0))
        assert str(tmp_path) not in str(caught.value)
        assert pool.status() == ()

    run_with_pool(body)


def test_a_model_with_another_signature_is_refused(linear_model: ModelDefinition) -> None:
    async def run() -> None:
        wanted = [TensorSpec("image", "FP32", (-1, FEATURES + 1))]
        pool = InstancePool(Dispatcher(RealClock()), inputs=wanted, settings=QUICK)
        try:
            with pytest.raises(ServingError, match=r"inputs are image FP32 \[-1, 6\]"):
                await pool.load("a", InstanceSpec("v", linear_model, 0.0, 0))
        finally:
            await pool.close()

    asyncio.run(run())


def test_reconcile_starts_stops_and_changes_only_what_differs(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        spec = InstanceSpec("v", linear_model, 0.0, 0)
        await pool.reconcile({"a": spec, "b": InstanceSpec("v", linear_model, 0.0, 1)})
        pids = {status.key: status.pid for status in pool.status()}
        await pool.reconcile(
            {"b": InstanceSpec("v", linear_model, 0.02, 0), "c": InstanceSpec("w", linear_model, 0.0, 1)}
        )
        status = {status.key: status for status in pool.status()}
        assert status.keys() == {"b", "c"}
        assert status["b"].pid == pids["b"]
        assert status["b"].spec.hold_s == 0.02
        assert all(s.state is InstanceState.SERVING for s in status.values())
        assert pids["a"] is not None
        assert gone(pids["a"])

    run_with_pool(body)


def test_draining_finishes_the_request_and_gives_no_other(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.2, 0)})
        first = asyncio.create_task(dispatcher.infer(REQUEST))
        await until(lambda: dispatcher.router.serving == 1)
        second = asyncio.create_task(dispatcher.infer(REQUEST))
        await pool.drain("a")
        assert (await first).instance == "a"
        assert not second.done()
        await pool.load("b", InstanceSpec("v", linear_model, 0.0, 1))
        assert not second.done()
        pool.admit("b")
        assert (await second).instance == "b"

    run_with_pool(body)


def test_a_dead_instance_is_replaced_and_its_request_served_elsewhere(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        spec = InstanceSpec("v", linear_model, 0.3, 0)
        await pool.reconcile({"a": spec})  # first, so that it has been idle longest
        await pool.reconcile({"a": spec, "b": InstanceSpec("v", linear_model, 0.0, 1)})
        request = asyncio.create_task(dispatcher.infer(REQUEST))
        await until(lambda: dispatcher.router.serving == 1)
        pid = pool.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert (await request).instance == "b"
        await until(lambda: pool.status()[0].state is InstanceState.SERVING)
        status = pool.status()[0]
        assert (status.restarts, status.trouble) == (1, "its process died")
        assert status.pid != pid

    run_with_pool(body)


def test_a_request_that_kills_two_instances_is_lost_and_not_tried_again(
    linear_model: ModelDefinition,
) -> None:
    completed: list[CompletedRequest] = []

    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        dispatcher.observe(completed.append)
        specs = {key: InstanceSpec("v", linear_model, 5.0, n) for n, key in enumerate("ab")}
        await pool.reconcile({"a": specs["a"]})
        await pool.reconcile(specs)
        request = asyncio.create_task(dispatcher.infer(REQUEST))
        for number in range(2):
            await until(lambda: dispatcher.router.serving == 1)
            pid = pool.status()[number].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda n=number: pool.status()[n].restarts == 1)  # type: ignore[misc]
        with pytest.raises(InstanceLostError, match="2 instances were tried"):
            await request

    run_with_pool(body)
    assert [request.outcome for request in completed] == [RequestOutcome.FAILED]


@pytest.mark.parametrize("admitted", [True, False])
def test_what_was_asked_of_an_instance_while_it_was_dead_holds_when_it_is_back(
    linear_model: ModelDefinition, admitted: bool
) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        await pool.load("a", InstanceSpec("v", linear_model, 0.0, 0))
        if not admitted:
            pool.admit("a")
        pid = pool.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.status()[0].state is InstanceState.RESTARTING)
        if admitted:
            pool.admit("a")
        else:
            await pool.drain("a")
        wanted = InstanceState.SERVING if admitted else InstanceState.LOADED
        await until(lambda: pool.status()[0].state is wanted)
        assert dispatcher.router.available == int(admitted)

    run_with_pool(body)


def test_a_restart_that_the_machine_has_no_room_for_is_tried_again(
    linear_model: ModelDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = subprocess.Popen
    refusals = [OSError(errno.ENOMEM, "Cannot allocate memory")]

    def sparing(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        if refusals:
            raise refusals.pop()
        return started(*arguments, **named)

    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.0, 0)})
        pid = pool.status()[0].pid
        assert pid is not None
        monkeypatch.setattr(subprocess, "Popen", sparing)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.status()[0].trouble == "cannot be started (Cannot allocate memory)")
        assert (await dispatcher.infer(REQUEST)).instance == "a"

    run_with_pool(body)


def test_a_silent_instance_is_ended_and_replaced(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.0, 0)})
        pid = pool.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: pool.status()[0].restarts == 1)
        assert (await dispatcher.infer(REQUEST)).instance == "a"

    run_with_pool(body)


def test_stopping_an_instance_while_it_starts_leaves_no_process(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        loading = asyncio.create_task(pool.load("a", InstanceSpec("v", linear_model, 0.0, 0)))
        await until(lambda: bool(pool.status()) and pool.status()[0].pid is not None)
        pid = pool.status()[0].pid
        assert pid is not None
        await pool.stop("a")
        with pytest.raises(ServingError, match="stopped"):
            await loading
        assert gone(pid)
        assert pool.status() == ()

    run_with_pool(body)


def test_deadline_and_cancellation_leave_queue_and_instance_in_order(linear_model: ModelDefinition) -> None:
    completed: list[CompletedRequest] = []

    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        dispatcher.observe(completed.append)
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.15, 0)})
        now = dispatcher.clock.now()
        running = asyncio.create_task(dispatcher.infer(REQUEST, deadline_s=now + 0.05))
        await until(lambda: dispatcher.router.serving == 1)
        waiting = asyncio.create_task(dispatcher.infer(REQUEST, deadline_s=now + 0.05))
        cancelled = asyncio.create_task(dispatcher.infer(REQUEST))
        last = asyncio.create_task(dispatcher.infer(REQUEST))
        await until(lambda: dispatcher.router.queued == 3)
        cancelled.cancel()
        for late in (running, waiting):
            with pytest.raises(DeadlineError):
                await late
        assert dispatcher.clock.now() - now < 0.12
        assert dispatcher.router.queued == 1
        assert (await last).queue_ns > 100e6
        await dispatcher.empty()

    run_with_pool(body)
    assert sorted(request.outcome.value for request in completed) == [
        "answered",
        "cancelled",
        "timed_out",
        "timed_out",
    ]


def test_a_full_queue_refuses(linear_model: ModelDefinition) -> None:
    async def body(dispatcher: Dispatcher, pool: InstancePool) -> None:
        dispatcher.router.capacity = 1
        waiting = asyncio.create_task(dispatcher.infer(REQUEST))
        await until(lambda: dispatcher.router.queued == 1)
        with pytest.raises(QueueFullError):
            await dispatcher.infer(REQUEST)
        await pool.reconcile({"a": InstanceSpec("v", linear_model, 0.0, 0)})
        assert (await waiting).instance == "a"

    run_with_pool(body)


@pytest.mark.parametrize("tie", ["socket and parent", "parent only"])
def test_no_instance_outlives_a_server_that_is_killed(linear_model: ModelDefinition, tie: str) -> None:
    server = textwrap.dedent(
        """
        import asyncio, os, sys
        from pathlib import Path
        from clover_rl.serving.clock import RealClock
        from clover_rl.serving.routing.dispatcher import Dispatcher
        from clover_rl.serving.instances.pool import InstancePool, InstanceSpec
        from clover_rl.serving.worker.definition import ModelDefinition, ModelKind
        from clover_rl.serving.worker.messages import Tensor

        async def main():
            dispatcher = Dispatcher(RealClock())
            pool = InstancePool(dispatcher)
            await pool.reconcile({"a": InstanceSpec("v", ModelDefinition.onnx(Path(sys.argv[1])), 60.0, 0)})
            busy = asyncio.create_task(dispatcher.infer((Tensor((1, 6), bytes(24)),)))
            await asyncio.sleep(0.05)
            channel = pool._entries["a"].instance._channel
            if sys.argv[2] == "parent only":  # a copy of the socket that outlives the server
                os.set_inheritable(channel._socket.fileno(), True)
            if os.fork() == 0:
                if sys.argv[2] != "parent only":
                    os.closerange(3, 100)
                os.close(1)
                os.execvp("sleep", ["sleep", "5"])
            print(pool.status()[0].pid, flush=True)
            await busy

        asyncio.run(main())
        """
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", server, str(linear_model.file), tie],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid)
        process.kill()
        end = time.monotonic() + 5.0
        while not gone(pid) and time.monotonic() < end:
            time.sleep(0.01)
        assert gone(pid)
        os.killpg(process.pid, signal.SIGKILL)  # the sleeper it left behind


def test_a_process_that_left_its_slice_takes_over_one_like_it(linear_model: ModelDefinition) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(RealClock())
        settings = replace(QUICK, standby=2)
        pool = InstancePool(dispatcher, inputs=INPUTS, outputs=OUTPUTS, settings=settings)
        here = InstanceSpec("v", linear_model, 0.0, 0, {"CLOVER_RL_SLICE": "gpu0/3g@0", "SHARE": "46"})
        there = replace(here, environment={"CLOVER_RL_SLICE": "gpu0/3g@4", "SHARE": "46"}, number=1)
        other = replace(here, environment={"CLOVER_RL_SLICE": "gpu0/4g@0", "SHARE": "49"})
        try:
            async with asyncio.timeout(20):
                await pool.prepare([here])
                await pool.reconcile({"a": here})
                first = pool.status()[0].pid
                await pool.reconcile({"b": there})
                assert pool.status()[0].pid == first
                assert (await dispatcher.infer(REQUEST)).instance == "b"
                await pool.reconcile({"c": other})
                second = pool.status()[0].pid
                assert second != first
                assert first is not None
                os.kill(first, signal.SIGKILL)  # one that waits may die unnoticed by clients
                await until(lambda: gone(first))
                assert (await dispatcher.infer(REQUEST)).instance == "c"
                await pool.reconcile({"b": there})
                assert pool.status()[0].pid not in (first, second)
                await pool.reconcile({})
        finally:
            await pool.close()
        assert second is not None
        assert gone(second)

    asyncio.run(run())
