"""InstancePool: the instances there are, brought to those there should be; the dead are raised again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import ServingError
from clover_rl.serving.instances.instance import Instance
from clover_rl.serving.instances.standby import Standby
from clover_rl.serving.routing.dispatcher import Dispatcher
from clover_rl.serving.worker.messages import Ready
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["InstancePool", "InstanceSpec", "InstanceState", "InstanceStatus", "PoolSettings"]

_LOG = logging.getLogger(__name__)


class InstanceState(Enum):
    """Where an instance stands."""

    LOADING = "loading"
    LOADED = "loaded"
    """Ready, but takes no requests yet."""
    SERVING = "serving"
    DRAINING = "draining"
    RESTARTING = "restarting"
    """It died; the next start waits for its turn."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Times of the pool, s.

    Attributes:
        start_timeout_s: longest that a start may take.
        stop_grace_s: what an idle process gets to end by itself.
        heartbeat_s: how often every instance must give a sign of life.
        silence_s: silence, beyond the device time of its request, after which an instance counts as dead.
        backoff_s: wait before the first restart; doubled with each death in a row.
        backoff_limit_s: longest wait before a restart.
        steady_s: an instance that has served so long starts its back-off anew.
        starts_at_once: processes that may be starting at the same time.
        standby: processes that may wait, loaded, for a slice like the one they left; each keeps its memory on
            the card, and the card its idle power.
    """

    start_timeout_s: float = 60.0
    stop_grace_s: float = 2.0
    heartbeat_s: float = 2.0
    silence_s: float = 10.0
    backoff_s: float = 0.1
    backoff_limit_s: float = 30.0
    steady_s: float = 5.0
    starts_at_once: int = 4
    standby: int = 0


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What can be said about an instance.

    Attributes:
        key: its name.
        spec: what it is.
        state: where it stands.
        pid: its process; None between two.
        restarts: deaths so far.
        trouble: why it died or did not start last time; None when nothing happened.
    """

    key: str
    spec: InstanceSpec
    state: InstanceState
    pid: int | None
    restarts: int
    trouble: str | None


@dataclass(slots=True, eq=False)
class _Entry:
    instance: Instance
    state: InstanceState = InstanceState.LOADING
    admitted: bool = False
    """Whether it is meant to take requests: a restart may come between `admit` or `drain` and that."""
    restarts: int = 0
    in_a_row: int = 0
    serving_since_s: float = 0.0
    heard_s: float = 0.0
    silent_beats: int = 0
    trouble: str | None = None
    restart: asyncio.Task[None] | None = None

    @property
    def starting(self) -> bool:
        """Whether its process is being started, or waits to be."""
        return self.state in (InstanceState.LOADING, InstanceState.RESTARTING)


class InstancePool:
    """All instances of a server.

    `load`, `admit`, `drain` and `stop` are the steps of a transition; `reconcile` runs them towards a desired
    set. An instance that dies is started again, after a wait that doubles with each death in a row.

    Args:
        dispatcher: who gives them requests.
        inputs, outputs: the application's signature, which every model must have; unchecked when left out.
        settings: times.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        settings: PoolSettings | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._settings = settings or PoolSettings()
        self._entries: dict[str, _Entry] = {}
        self._reconciling = asyncio.Lock()
        self._starting = asyncio.Semaphore(self._settings.starts_at_once)
        self._heart: asyncio.Task[None] | None = None
        self._standby = Standby(self._settings.standby)
        self._reaping: set[asyncio.Task[None]] = set()

    def status(self) -> tuple[InstanceStatus, ...]:
        """Every instance, by number."""
        entries = sorted(self._entries.items(), key=lambda item: (item[1].instance.spec.number, item[0]))
        return tuple(
            InstanceStatus(
                key, entry.instance.spec, entry.state, entry.instance.pid, entry.restarts, entry.trouble
            )
            for key, entry in entries
        )

    async def load(self, key: str, spec: InstanceSpec) -> Ready:
        """Start an instance and wait until it is warm; it takes no requests before `admit`.

        Raises:
            ServingError: there is one of that name, it cannot be started, or its model has another signature.
        """
        if key in self._entries:
            raise ServingError("exists already", where=f"instance {key}", fix="stop it first")
        if self._heart is None:
            self._heart = asyncio.get_running_loop().create_task(self._beat())
        waiting = self._standby.take(spec)
        if waiting is not None and waiting.ready is not None:
            waiting.key, waiting.spec = key, spec
            self._entries[key] = _Entry(waiting, InstanceState.LOADED)
            return waiting.ready
        entry = _Entry(self._make(key, spec))
        self._entries[key] = entry
        try:
            ready = await self._start(entry)
        except BaseException as error:
            if self._entries.get(key) is entry:
                del self._entries[key]
            elif isinstance(error, ServingError):  # however far it had come when it ended
                raise ServingError("was stopped while it started", where=f"instance {key}") from error
            raise
        if self._entries.get(key) is not entry:
            await entry.instance.kill()
            raise ServingError("was stopped while it started", where=f"instance {key}")
        entry.state = InstanceState.LOADED
        return ready

    async def prepare(self, specs: Sequence[InstanceSpec]) -> None:
        """Start processes that wait for slices, as far as `standby` allows.

        Raises:
            ServingError: one cannot be started.
        """

        async def one(spec: InstanceSpec) -> None:
            entry = _Entry(self._make("standby", spec))
            await self._start(entry)
            if not self._standby.put(entry.instance):
                await entry.instance.stop(self._settings.stop_grace_s)

        await asyncio.gather(*map(one, specs))

    def admit(self, key: str) -> None:
        """Let a loaded instance take requests, or one that drains take them again.

        Raises:
            ServingError: there is none of that name, or it is not loaded yet.
        """
        entry = self._entry(key)
        match entry.state:
            case InstanceState.LOADED:
                self._serve(entry)
            case InstanceState.DRAINING:
                entry.state = InstanceState.SERVING
                self._dispatcher.resume(key)
            case InstanceState.LOADING:
                raise ServingError("is not loaded yet", where=f"instance {key}")
            case InstanceState.SERVING | InstanceState.RESTARTING:
                pass  # serves, or will when it is back
        entry.admitted = True

    async def drain(self, key: str) -> None:
        """Give an instance no new request and wait until it is idle.

        Raises:
            ServingError: there is none of that name.
        """
        entry = self._entry(key)
        entry.admitted = False
        if entry.state is InstanceState.SERVING:
            entry.state = InstanceState.DRAINING
        await self._dispatcher.drain(key)

    async def stop(self, key: str) -> None:
        """End an instance: it finishes its request first. One that does not exist is stopped already."""
        entry = self._entries.get(key)
        if entry is None:
            return
        await self.drain(key)
        if self._entries.get(key) is entry:
            del self._entries[key]
        await self._end(entry)

    def update(self, key: str, spec: InstanceSpec) -> None:
        """Change device time and number of a running instance, from its next request on.

        Raises:
            ServingError: there is none of that name, or the change needs another process.
        """
        entry = self._entry(key)
        if not entry.instance.spec.same_process(spec):
            raise ServingError("needs another process to become that", where=f"instance {key}")
        entry.instance.spec = spec
        self._dispatcher.renumber(key, spec.number)

    async def reconcile(self, desired: Mapping[str, InstanceSpec]) -> None:
        """Stop what is not desired, start what is missing, change what only needs changing.

        The old goes first; a transition plan, which knows where both fit side by side, runs the steps itself.

        Raises:
            ServingError: an instance cannot be started; the others were brought to what is desired.
        """
        async with self._reconciling:
            gone = [
                key
                for key, entry in self._entries.items()
                if key not in desired or not entry.instance.spec.same_process(desired[key])
            ]
            await asyncio.gather(*(self.stop(key) for key in gone))
            missing = []
            for key, spec in desired.items():
                if key in self._entries:
                    self.update(key, spec)
                    self.admit(key)
                else:
                    missing.append(self._bring_up(key, spec))
            results = await asyncio.gather(*missing, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def close(self) -> None:
        """End every instance; requests that they still have are answered as lost."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
            self._heart = None
        entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            self._dispatcher.remove(entry.instance.key)
        await asyncio.gather(
            *(self._end(entry, waits=False) for entry in entries),
            *(instance.stop(self._settings.stop_grace_s) for instance in self._standby.clear()),
        )

    # --- inside

    def _make(self, key: str, spec: InstanceSpec) -> Instance:
        return Instance(key, spec, self._died, inputs=self._inputs, outputs=self._outputs)

    def _entry(self, key: str) -> _Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise ServingError("does not exist", where=f"instance {key}") from None

    async def _bring_up(self, key: str, spec: InstanceSpec) -> None:
        await self.load(key, spec)
        self.admit(key)

    async def _start(self, entry: _Entry) -> Ready:
        async with self._starting:
            ready = await entry.instance.start(self._settings.start_timeout_s)
        if not entry.instance.alive:  # its death was told while nobody could know of it
            await entry.instance.kill()
            raise ServingError("ended as soon as it was ready", where=f"instance {entry.instance.key}")
        for side, wanted, found in (
            ("inputs", self._inputs, ready.inputs),
            ("outputs", self._outputs, ready.outputs),
        ):
            if wanted and not _agree(wanted, found):
                await entry.instance.kill()
                raise ServingError(
                    f"the model's {side} are {_text(found)}, the application's {_text(wanted)}",
                    where=f"instance {entry.instance.key}",
                    fix=f"give variant {entry.instance.spec.variant} the application's signature",
                )
        return ready

    def _serve(self, entry: _Entry) -> None:
        entry.state = InstanceState.SERVING
        entry.serving_since_s = asyncio.get_running_loop().time()
        self._dispatcher.admit(entry.instance)

    async def _end(self, entry: _Entry, *, waits: bool = True) -> None:
        if entry.restart is not None:
            entry.restart.cancel()
            await asyncio.gather(entry.restart, return_exceptions=True)
        self._dispatcher.remove(entry.instance.key)
        if waits and not entry.starting and self._standby.put(entry.instance):
            return
        if entry.instance.pid is not None:
            await entry.instance.stop(self._settings.stop_grace_s)

    def _died(self, instance: Instance) -> None:
        if self._standby.discard(instance):
            task = asyncio.get_running_loop().create_task(instance.kill())
            self._reaping.add(task)
            task.add_done_callback(self._reaping.discard)
            return
        self._dispatcher.remove(instance.key)
        entry = self._entries.get(instance.key)
        if entry is None or entry.instance is not instance:
            return
        if entry.starting:
            return  # whoever starts it finds out
        loop = asyncio.get_running_loop()
        served = entry.state is not InstanceState.LOADED
        if served and loop.time() - entry.serving_since_s >= self._settings.steady_s:
            entry.in_a_row = 0
        entry.trouble = "its process died"
        _LOG.warning("instance %s died (process %s); it is started again", instance.key, instance.pid)
        entry.state = InstanceState.RESTARTING
        entry.restart = loop.create_task(self._restart(entry))

    async def _restart(self, entry: _Entry) -> None:
        old = entry.instance
        entry.restarts += 1
        while True:
            wait_s = min(self._settings.backoff_s * 2.0**entry.in_a_row, self._settings.backoff_limit_s)
            entry.in_a_row += 1
            await old.kill()
            await asyncio.sleep(wait_s)
            entry.instance = old = self._make(old.key, old.spec)
            try:
                await self._start(entry)
                break
            except ServingError as error:
                entry.trouble = error.what
                _LOG.warning("instance %s does not start again: %s", old.key, error.what)
        entry.restart = None
        if entry.admitted:
            self._serve(entry)
        else:
            entry.state = InstanceState.LOADED

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            for entry in self._entries.values():
                if not entry.starting:
                    self._check(entry)

    def _check(self, entry: _Entry) -> None:
        """Count beats without a sign of life: in seconds, a server held up would blame its instances."""
        instance = entry.instance
        if entry.heard_s != instance.last_heard_s or (instance.busy and not instance.overdue):
            entry.heard_s, entry.silent_beats = instance.last_heard_s, 0
        else:
            entry.silent_beats += 1
        if entry.silent_beats * self._settings.heartbeat_s >= self._settings.silence_s:
            _LOG.warning("instance %s is silent; its process is ended", instance.key)
            entry.silent_beats = 0
            instance.crash()
        elif not instance.busy:
            instance.ping()


def _agree(wanted: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> bool:
    return len(wanted) == len(found) and all(
        (ours.name, ours.datatype, len(ours.shape)) == (theirs.name, theirs.datatype, len(theirs.shape))
        and all(a == b or -1 in (a, b) for a, b in zip(ours.shape, theirs.shape, strict=True))
        for ours, theirs in zip(wanted, found, strict=True)
    )


def _text(tensors: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in tensors) or "none"
