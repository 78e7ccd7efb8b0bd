"""Dispatcher: carries out on live instances what the router decides; answers each request exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from clover_rl.errors import InputError, ServingError
from clover_rl.serving.clock import Clock
from clover_rl.serving.routing.router import Assignment, QueueFullError, Router, Ticket
from clover_rl.serving.worker.messages import Failure, Outcome, Tensor
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = [
    "Answer",
    "CompletedRequest",
    "DeadlineError",
    "Dispatcher",
    "DrainingError",
    "Instance",
    "InstanceLostError",
    "Observer",
    "RequestOutcome",
    "UnloadedError",
]

_CANCEL_SLACK_S = 0.01  # a client and this server do not measure its deadline by the same clock


class DrainingError(ServingError):
    """The server is stopping and takes no new request."""


class UnloadedError(ServingError):
    """The application is out of service until it is loaded again."""


class DeadlineError(ServingError):
    """The request's time was up before it was answered."""


class InstanceLostError(ServingError):
    """The instance that served the request died, and it was not, or must not be, tried again."""


class RequestOutcome(Enum):
    """How a request ended."""

    ANSWERED = "answered"
    TIMED_OUT = "timed_out"
    """Its deadline passed before it was answered."""
    CANCELLED = "cancelled"
    """Its client went away."""
    FAILED = "failed"
    """The instance died or could not run it."""
    INVALID = "invalid"
    """The request itself was wrong."""
    REJECTED = "rejected"
    """The queue was full, or the server was stopping."""


class CompletedRequest(NamedTuple):
    """The facts of one request that has left the data plane.

    Attributes:
        variant: that served it, or was serving it when it ended; None when it never started.
        instance: likewise.
        arrived_s: on the server's clock, s.
        started_s: when an instance took it (the last one, if it was tried twice); None when it never started.
        finished_s: when it left, s. An instance may still be busy with one that was given up.
        outcome: how it ended.
        reason: why it was not answered, in a word or two of a fixed list; empty when it was.
    """

    variant: str | None
    instance: str | None
    arrived_s: float
    started_s: float | None
    finished_s: float
    outcome: RequestOutcome
    reason: str = ""


class Instance(Protocol):
    """A live instance as the dispatcher uses it."""

    @property
    def key(self) -> str:
        """Its name."""
        ...

    @property
    def spec(self) -> InstanceSpec:
        """What it is."""
        ...

    def infer(self, tensors: Sequence[Tensor], hold_s: float, done: Callable[[Outcome], None]) -> None:
        """Hand over one request; `done` is called once, never from within this call."""
        ...


class Observer(Protocol):
    """Who is told of every request that leaves; called on the event loop, so it must be quick."""

    def __call__(self, request: CompletedRequest) -> None:
        """Take note of one request."""
        ...


class Answer(NamedTuple):
    """What a request got.

    Attributes:
        variant: that answered.
        instance: key of the instance that answered.
        tensors: outputs, in the signature's order; views that stay valid.
        queue_ns: from arrival to the start on the instance that answered.
        input_ns: hand-over into the instance.
        compute_ns: device time: the inference and what it was held back for.
        output_ns: hand-over back.
    """

    variant: str
    instance: str
    tensors: Sequence[Tensor]
    queue_ns: int
    input_ns: int
    compute_ns: int
    output_ns: int


@dataclass(slots=True, eq=False)
class _Job:
    tensors: Sequence[Tensor]
    future: asyncio.Future[Answer]
    variant: str | None = None


class Dispatcher:
    """One router and the live instances behind it.

    Args:
        clock: the server's.
        capacity: most requests that may wait.
        capacity_bytes: most bytes of inputs that may wait; None for any.
        attempts: how many instances may be tried for one request (an instance may die under it).
        hold_s: device time of a request on an instance, s; what its spec says when left out.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        capacity: int = 1024,
        capacity_bytes: int | None = 1 << 30,
        attempts: int = 2,
        hold_s: Callable[[Instance], float] | None = None,
    ) -> None:
        self.clock = clock
        self.router: Router[_Job] = Router(clock, capacity=capacity, capacity_bytes=capacity_bytes)
        self.draining = False
        self.loaded = True
        self.arrived = 0
        self._attempts = attempts
        self._hold_s = hold_s or (lambda instance: instance.spec.hold_s)
        self._observers: list[Observer] = []
        self._instances: dict[str, Instance] = {}
        self._idle_waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._open = 0
        self._empty_waiters: list[asyncio.Future[None]] = []
        self._on_change: list[Callable[[], None]] = []

    # --- facts

    @property
    def ready(self) -> bool:
        """Whether requests are accepted and at least one instance takes them."""
        return self.loaded and not self.draining and self.router.available > 0

    @property
    def open(self) -> int:
        """Requests accepted and not yet answered."""
        return self._open

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of every request that leaves from now on."""
        self._observers.append(observer)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `ready` may have changed."""
        self._on_change.append(callback)

    # --- instances

    def admit(self, instance: Instance) -> None:
        """Let a ready instance take requests; it counts as free since now.

        Raises:
            ValueError: one of its name takes part already.
        """
        started = self.router.add_instance(instance.key, instance.spec.number)
        self._instances[instance.key] = instance
        self._carry_out(started)
        self._changed()

    def renumber(self, key: str, number: int) -> None:
        """Give an instance another number; one that takes no part is left alone."""
        if key in self._instances:
            self.router.renumber_instance(key, number)

    async def drain(self, key: str) -> None:
        """Give an instance no new request and wait until it is idle; one that takes no part is idle."""
        if key not in self._instances:
            return
        idle = self.router.drain_instance(key)
        self._changed()
        if not idle:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_waiters.setdefault(key, []).append(waiter)
            await waiter

    def resume(self, key: str) -> None:
        """Take back an instance that was told to drain."""
        if key in self._instances:
            self._carry_out(self.router.resume_instance(key))
            self._changed()

    def remove(self, key: str) -> None:
        """Forget an instance; a request that it still has is tried elsewhere or answered as lost."""
        if self._instances.pop(key, None) is None:
            return
        lost = self.router.remove_instance(key)
        self._wake(key)
        if lost is not None:
            self._retry(lost)
        self._changed()

    # --- requests

    async def infer(
        self,
        tensors: Sequence[Tensor],
        *,
        deadline_s: float | None = None,
        enforce: bool = True,
        size_bytes: int = 0,
    ) -> Answer:
        """Answer one request.

        Args:
            tensors: inputs in the signature's order.
            deadline_s: time by which it must be answered, s on the clock; None for never.
            enforce: raise at the deadline. False when the caller is cancelled then anyway.
            size_bytes: what it holds in memory while it waits.

        Raises:
            QueueFullError: the queue is full.
            DrainingError: the server is stopping.
            UnloadedError: the application is out of service.
            DeadlineError: its time was up first.
            InstanceLostError: the instances that tried it died.
            InputError: the model cannot take this input.
            ServingError: the instance failed.
        """
        if self.draining or not self.loaded:
            raise self.refusal()
        loop = asyncio.get_running_loop()
        job = _Job(tensors, loop.create_future())
        try:
            ticket, started = self.router.submit(job, deadline_s=deadline_s, size_bytes=size_bytes)
        except QueueFullError:
            self.refuse(RequestOutcome.REJECTED, "queue_full")
            raise
        self.arrived += 1
        self._open += 1
        self._carry_out(started)
        timer = None
        if deadline_s is not None and enforce:
            timer = loop.call_later(max(deadline_s - ticket.arrived_s, 0.0), self._too_late, ticket)
        try:
            return await job.future
        except asyncio.CancelledError:
            if not job.future.cancelled():
                raise  # it was answered, and accounted for, just before
            late = deadline_s is not None and self.clock.now() > deadline_s - _CANCEL_SLACK_S
            if late:
                self._give_up(ticket, RequestOutcome.TIMED_OUT, "deadline")
            else:
                self._give_up(ticket, RequestOutcome.CANCELLED, "cancelled")
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._open -= 1
            if not self._open:
                self._release(self._empty_waiters)

    def refuse(self, outcome: RequestOutcome, reason: str) -> None:
        """Count a request that the endpoint refused before it got here, and tell the observers."""
        now = self.clock.now()
        self.arrived += 1
        self._tell(CompletedRequest(None, None, now, None, now, outcome, reason))

    async def empty(self) -> None:
        """Wait until every accepted request is answered."""
        while self._open:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._empty_waiters.append(waiter)
            await waiter

    def refusal(self) -> ServingError:
        """Count a request that is not accepted at present; what it is told."""
        self.refuse(RequestOutcome.REJECTED, "draining" if self.draining else "unloaded")
        if self.draining:
            return DrainingError("the server is stopping and takes no new requests")
        return UnloadedError("the model is unloaded and has no available versions")

    def set_loaded(self, loaded: bool) -> None:
        """Take the application out of service or back into it; what was accepted is answered either way."""
        self.loaded = loaded
        self._changed()

    def stop_accepting(self) -> None:
        """Refuse new requests from now on."""
        self.draining = True
        self._changed()

    def abandon(self, reason: str) -> None:
        """Answer everything that waits as lost: nothing will come to serve it."""
        for ticket in list(self.router.waiting()):
            self.router.withdraw(ticket)
            self._fail(ticket, InstanceLostError(reason), RequestOutcome.FAILED, "instance_lost")

    def in_flight(self) -> Iterator[Instance]:
        """The instances that have a request now."""
        return (self._instances[key] for key in self.router.busy() if key in self._instances)

    # --- inside

    def _carry_out(self, assignments: list[Assignment[_Job]]) -> None:
        for ticket, key in assignments:
            instance = self._instances[key]
            ticket.payload.variant = instance.spec.variant
            instance.infer(ticket.payload.tensors, self._hold_s(instance), self._finisher(ticket, instance))

    def _finisher(self, ticket: Ticket[_Job], instance: Instance) -> Callable[[Outcome], None]:
        handed_ns = time.monotonic_ns()

        def finish(outcome: Outcome) -> None:
            if outcome is None:
                if self._instances.get(instance.key) is instance:
                    self.remove(instance.key)
                return
            took_ns = time.monotonic_ns() - handed_ns
            now = self.clock.now()
            if self._instances.get(instance.key) is instance:
                self._carry_out(self.router.free(instance.key))
                self._wake(instance.key)
            job = ticket.payload
            if job.future.done():
                return  # given up in the meantime, and accounted for then
            if isinstance(outcome, Failure):
                self._fail(ticket, *_failure(outcome))
                return
            compute_ns = outcome.infer_ns + outcome.held_ns
            self._tell(
                CompletedRequest(
                    instance.spec.variant,
                    instance.key,
                    ticket.arrived_s,
                    ticket.started_s,
                    now,
                    RequestOutcome.ANSWERED,
                )
            )
            job.future.set_result(
                Answer(
                    variant=instance.spec.variant,
                    instance=instance.key,
                    tensors=outcome.tensors,
                    queue_ns=max(int((ticket.started_s - ticket.arrived_s) * 1e9), 0),
                    input_ns=outcome.input_ns,
                    compute_ns=compute_ns,
                    output_ns=max(took_ns - outcome.input_ns - compute_ns, 0),
                )
            )

        return finish

    def _retry(self, ticket: Ticket[_Job]) -> None:
        if ticket.payload.future.done():
            return
        if ticket.attempts < self._attempts:
            self._carry_out(self.router.requeue(ticket))
        else:
            reason = f"the instance died, and {ticket.attempts} instances were tried"
            self._fail(ticket, InstanceLostError(reason), RequestOutcome.FAILED, "instance_lost")

    def _too_late(self, ticket: Ticket[_Job]) -> None:
        if not ticket.payload.future.done():
            self._give_up(ticket, RequestOutcome.TIMED_OUT, "deadline")
            ticket.payload.future.set_exception(DeadlineError("the request timed out before it was answered"))

    def _give_up(self, ticket: Ticket[_Job], outcome: RequestOutcome, reason: str) -> None:
        self.router.withdraw(ticket)
        self.router.expire()  # those it names have timers or callers of their own
        self._account(ticket, outcome, reason)

    def _fail(self, ticket: Ticket[_Job], error: Exception, outcome: RequestOutcome, reason: str) -> None:
        if not ticket.payload.future.done():
            self._account(ticket, outcome, reason)
            ticket.payload.future.set_exception(error)

    def _account(self, ticket: Ticket[_Job], outcome: RequestOutcome, reason: str) -> None:
        started = ticket.started_s if ticket.attempts else None
        variant = ticket.payload.variant
        now = self.clock.now()
        self._tell(
            CompletedRequest(variant, ticket.instance, ticket.arrived_s, started, now, outcome, reason)
        )

    def _tell(self, request: CompletedRequest) -> None:
        for observer in self._observers:
            observer(request)

    def _changed(self) -> None:
        for callback in self._on_change:
            callback()

    def _wake(self, key: str) -> None:
        waiters = self._idle_waiters.get(key)
        if waiters and (key not in self._instances or self.router.is_idle(key)):
            self._release(self._idle_waiters.pop(key))

    @staticmethod
    def _release(waiters: list[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        waiters.clear()


def _failure(failure: Failure) -> tuple[Exception, RequestOutcome, str]:
    if failure.bad_input:
        return InputError(failure.reason), RequestOutcome.INVALID, "invalid"
    return ServingError(failure.reason), RequestOutcome.FAILED, "model_failed"
