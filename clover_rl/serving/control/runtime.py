"""Runtime: one server, wired: data plane, instances, control loop, ledger, metrics, control plane."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from clover_rl.agents.budgeted import within
from clover_rl.agents.bundle import Bundle, open_bundle
from clover_rl.agents.margins import MAKERS
from clover_rl.agents.policy import PolicyController
from clover_rl.agents.registry import make_controller
from clover_rl.cluster.carbon import JOULES_PER_KWH
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.control.controller import Controller
from clover_rl.control.guard import Guarded
from clover_rl.control.ledger import Activation, Ledger, Transition
from clover_rl.control.loop import ControlLoop
from clover_rl.envs.scenario import Scenario
from clover_rl.errors import ServingError
from clover_rl.serving.access import ControlAccess, host_and_port
from clover_rl.serving.clock import Clock, RealClock
from clover_rl.serving.control.control_metrics import ControlMetrics
from clover_rl.serving.control.control_thread import ControlThread, InCharge
from clover_rl.serving.control.controlplane import ControlPlane
from clover_rl.serving.control.energy import EnergyBook
from clover_rl.serving.control.live_cluster import LiveCluster
from clover_rl.serving.control.models import model_definitions
from clover_rl.serving.control.reconciler import Reconciler
from clover_rl.serving.control.transition_record import TransitionRecord
from clover_rl.serving.endpoint.dataplane import DataPlane, DataPlaneSettings
from clover_rl.serving.endpoint.metrics import Metrics, MetricsExporter, slice_of
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.instances.pool import InstancePool, PoolSettings
from clover_rl.serving.partition.select import Partitioning, PartitionSettings
from clover_rl.serving.routing.dispatcher import Dispatcher
from clover_rl.serving.telemetry.gpu_metrics import GpuMetrics
from clover_rl.serving.telemetry.metered_book import MeteredBook
from clover_rl.signals import TraceSignal, require_kind
from clover_rl.signals.feeds import CarbonFeed
from clover_rl.simulation.model import ClusterModel

__all__ = ["Runtime", "ServerSettings"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        state: folder of the ledger and of deployed bundles.
        carbon: carbon trace, its forecaster set.
        carbon_start: the trace's time at the run's second 0.
        controller: name of a controller, or None for the one in the ledger, else annealing.
        w: weight of carbon.
        accuracy_budget: accuracy that may be lost a day, by which the weight is moved; None keeps it.
        host: address of the data plane.
        port, control_port, metrics_port: 0 takes any free one.
        grace_s: how long a stop waits for accepted requests.
        seed: of whatever is random in controllers.
        queue: most requests that may wait.
        standby: processes that may wait, loaded, for a slice (see `PoolSettings`).
        data_plane: of the endpoint.
        partition: who cuts which GPUs.
        control: who may reach the control port.
    """

    state: Path
    carbon: TraceSignal
    carbon_start: float = 0.0
    controller: str | None = None
    w: float = 0.05
    accuracy_budget: float | None = None
    host: str = "127.0.0.1"
    port: int = 8001
    control_port: int = 8002
    metrics_port: int = 8003
    grace_s: float = 30.0
    seed: int = 0
    queue: int = 1024
    standby: int = 0
    data_plane: DataPlaneSettings = field(default_factory=DataPlaneSettings)
    partition: PartitionSettings = field(default_factory=PartitionSettings)
    control: ControlAccess = field(default_factory=ControlAccess)


class Runtime:
    """A server from start to stop.

    Args:
        scenario, model: what is served.
        settings: how.
        clock: time.

    Raises:
        InputError: the scenario cannot be served, its ledger belongs to another, or the trace is of another
            kind of intensity than the scenario counts.
    """

    def __init__(
        self, scenario: Scenario, model: ClusterModel, settings: ServerSettings, *, clock: Clock | None = None
    ) -> None:
        self.scenario, self.model, self.settings = scenario, model, settings
        self.clock = clock or RealClock()
        require_kind(settings.carbon, scenario.carbon.kind, where=settings.carbon.name)
        self.sci = scenario.sci
        profile = model.profile
        models = model_definitions(profile, settings.partition.backend)
        self.ledger = Ledger(settings.state / "ledger.sqlite", profile, _fingerprint(scenario, model))
        intervals = self.ledger.recent_intervals()
        self.began = self.clock.now() - (intervals[-1].end if intervals else 0.0)
        application = profile.application
        self.dispatcher = Dispatcher(
            self.clock, capacity=settings.queue, attempts=2 if application.idempotent else 1
        )
        self.pool = InstancePool(
            self.dispatcher,
            inputs=application.inputs,
            outputs=application.outputs,
            settings=PoolSettings(
                standby=settings.standby,
                # many at once are started only to wait, before anything is served
                starts_at_once=max(4, min(12, settings.standby)),
            ),
        )
        self.partition = Partitioning(settings.partition, model.gpus, profile, self.clock.now)
        meter, began = self.partition.meter, self.clock.now()
        # an emulated device computes on the CPU: what the cards under it draw is not its energy
        metered = None if profile.partition == "emulated" else meter
        book = None if metered is None else MeteredBook(model.physics, model.gpus, began, metered)
        self.energy = book or EnergyBook(model.physics, model.gpus, began)
        self.reconciler = Reconciler(
            self.pool,
            self.partition.backend,
            profile,
            models,
            model.gpus,
            on_state=self._changed,
            hold=profile.partition == "emulated",
            clock=self.clock,
            on_record=self._record,
        )
        self.metrics = Metrics(self.dispatcher, self.pool, estimate=self._estimate)
        if meter is not None:
            GpuMetrics(meter, self.metrics.registry, book, profile.gpu)
        self.exporter = MetricsExporter(self.metrics.registry)
        self.data_plane = DataPlane(
            ServedModel.of(application),
            self.dispatcher,
            settings=settings.data_plane,
            carbon=self._carbon_of,
        )
        self.control_plane = ControlPlane(self)
        self._intervals = intervals
        self._energies: dict[tuple[str, str], float] = {}
        self._history: list[InCharge] = []
        self._watchers: list[Callable[[ClusterConfiguration], None]] = []
        self.control: ControlThread | None = None
        self.ports: dict[str, int] = {}

    # --- life

    async def start(self, before_control: Callable[[], Awaitable[None]] | None = None) -> None:
        """Bind the ports, bring the cluster up, put a controller in charge.

        Args:
            before_control: awaited when requests are answered and nobody is in charge yet.

        Raises:
            ServingError: a port is in use, or the cluster cannot be brought up.
            CloverError: the controller cannot be made.
        """
        settings = self.settings
        try:
            in_charge = self._first_in_charge()
            self.ports["data"] = await self.data_plane.start(host_and_port(settings.host, settings.port))
            self.ports["control"] = await self.control_plane.start(settings.control, settings.control_port)
            self.ports["metrics"] = await self.exporter.start("127.0.0.1", settings.metrics_port)
            await self._bring_up()
            if before_control is not None:
                await before_control()
        except BaseException:
            await self._close()
            raise
        self._begin(in_charge)

    async def settle(self, target: ClusterConfiguration) -> None:
        """Bring the cluster to a configuration and wait; only while nobody is in charge.

        Raises:
            ServingError: it cannot be brought there.
        """
        self.reconciler.apply(plan_transition(self.reconciler.actual, target, self.model.profile))
        await self.reconciler.settled()
        if self.reconciler.trouble:
            raise ServingError(f"{target} cannot be brought up: {self.reconciler.trouble}")

    def restart_clock(self) -> None:
        """Let the run's second 0 be now; only before control begins."""
        self.began = self.clock.now()

    def on_state(self, watcher: Callable[[ClusterConfiguration], None]) -> None:
        """Call `watcher` whenever what takes requests changes."""
        self._watchers.append(watcher)

    def _changed(self, configuration: ClusterConfiguration, powered: tuple[bool, ...]) -> None:
        self.energy.powered(powered, self.clock.now())
        for watcher in self._watchers:
            watcher(configuration)

    async def _bring_up(self) -> None:
        target = self.ledger.last_configuration() or self.model.catalogue[self.model.base]
        plan = plan_transition(self.reconciler.actual, target, self.model.profile)
        await self.partition.recover(plan.target)
        self.reconciler.apply(plan)
        await self.reconciler.settled()
        if self.reconciler.trouble:
            raise ServingError(f"the cluster could not be brought up: {self.reconciler.trouble}")

    def _begin(self, in_charge: InCharge) -> None:
        scenario, model = self.scenario, self.model
        cluster = LiveCluster(
            self.reconciler,
            self.dispatcher,
            self.energy,
            self.clock,
            self.began,
            asyncio.get_running_loop(),
        )
        loop = ControlLoop(
            controller=in_charge.controller,
            cluster=cluster,
            carbon=CarbonFeed(self.settings.carbon, self.settings.carbon_start, scenario.time_scale),
            profile=model.profile,
            objective=scenario.objective(model, self.settings.w),
            interval_s=scenario.interval_s,
            pue=scenario.pue,
            available=(True,) * model.gpus,
            intervals=list(self._intervals),
        )
        self.control = ControlThread(
            loop, cluster, self.ledger, self._guard(in_charge.controller), in_charge, self.settings.seed
        )
        self._history.append(in_charge)
        self.ledger.activated(
            Activation(cluster.now, in_charge.controller.name, in_charge.bundle_sha256, "server start")
        )
        ControlMetrics(self.control, self.metrics.registry)
        self.control.start()

    async def stop(self, *, forced: bool = False) -> bool:
        """Stop accepting, answer what was accepted, end everything.

        Returns:
            False when the grace period was too short for what was accepted.
        """
        drained = True
        if not forced:
            drained = await self.data_plane.drain(self.settings.grace_s)
        await self._close()
        return drained

    async def _close(self) -> None:
        if self.control is not None:
            await asyncio.get_running_loop().run_in_executor(None, self.control.stop)
        await self.reconciler.close()
        # what the grace period was too short for gets its answer, and its place in metrics and ledger
        await self.pool.close()
        self.dispatcher.abandon("the server stopped first")
        await self.data_plane.stop()
        await self.control_plane.stop()
        await self.exporter.stop()
        self.partition.close()
        self.ledger.close()

    def _record(self, record: TransitionRecord) -> None:
        """Keep what became of a transition; one that begins is written first, so a kill leaves its trace."""
        ended = record.ended_s
        self.ledger.transition(
            Transition(
                number=record.number,
                began_s=record.began_s - self.began,
                ended_s=None if ended is None else ended - self.began,
                source=str(record.source),
                target=str(record.target),
                reached=None if record.reached is None else str(record.reached),
                outcome=None if record.outcome is None else record.outcome.value,
                tries=record.tries,
                trouble=record.trouble,
            )
        )

    # --- who is in charge

    def _first_in_charge(self) -> InCharge:
        """The controller that was asked for, else the ledger's, else annealing."""
        if self.settings.controller is not None:
            return self._named(self.settings.controller)
        last = self.ledger.last_activation()
        if last is None:
            return self._named("annealing")
        return self._restored(last)

    def _named(self, name: str) -> InCharge:
        if name.endswith(".clover"):
            return self._policy(open_bundle(Path(name)))
        return self._built_in(name)

    def _built_in(self, name: str) -> InCharge:
        if name in MAKERS:
            log.info("controller %s: its margin is tuned now if it never was, which takes minutes", name)
        return InCharge(make_controller(name, self.scenario, self.model))

    def _restored(self, activation: Activation) -> InCharge:
        if activation.bundle is None:
            return self._named(activation.controller)
        return self._policy(open_bundle(self._bundle_path(activation.bundle)))

    def _bundle_path(self, sha256: str) -> Path:
        return self.settings.state / "bundles" / f"{sha256}.clover"

    def _policy(self, bundle: Bundle) -> InCharge:
        controller = PolicyController(bundle, self.model)
        bundle.replay()
        for warning in controller.warnings:
            log.warning("bundle %s: %s", bundle.name, warning)
        return InCharge(controller, bundle.sha256, bundle.name)

    def _guard(self, controller: Controller) -> Guarded:
        budget = self.settings.accuracy_budget
        if budget is not None:
            controller = within(controller, budget, self.scenario, self.model)
        return Guarded(controller, self.model, timeout_s=self.scenario.timeout_s)

    def deploy(self, content: bytes) -> tuple[InCharge, InCharge]:
        """Verify, keep and put in charge a bundle; returns (new, previous). Blocks for the replay.

        Raises:
            BundleError: nothing has changed.
        """
        bundle = open_bundle(content)
        in_charge = self._policy(bundle)
        path = self._bundle_path(bundle.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(path)
        return in_charge, self._hand_over(in_charge, f"deployed {bundle.name}")

    def activate(self, name: str) -> tuple[InCharge, InCharge]:
        """Put a built-in controller in charge; returns (new, previous).

        Raises:
            InputError: no such controller.
        """
        in_charge = self._built_in(name)
        return in_charge, self._hand_over(in_charge, "activated")

    def put_in_charge(self, in_charge: InCharge, reason: str) -> InCharge:
        """Put a controller that is no built-in one in charge from the next decision on; returns the previous.

        Raises:
            ServingError: the server is still starting.
        """
        return self._hand_over(in_charge, reason)

    def rollback(self) -> tuple[InCharge, InCharge]:
        """Put the controller before the present one back in charge; returns (new, previous).

        After a restart the ledger knows who that was.

        Raises:
            ServingError: there was none before.
        """
        if len(self._history) > 1:
            self._history.pop()
            in_charge = self._history.pop()
        else:
            in_charge = self._earlier()
        return in_charge, self._hand_over(in_charge, "rolled back")

    def _earlier(self) -> InCharge:
        """The last one in the ledger that is not in charge now."""
        assert self.control is not None
        now = self.control.upcoming
        for activation in reversed(self.ledger.activations()):
            if (activation.controller, activation.bundle) != (now.controller.name, now.bundle_sha256):
                return self._restored(activation)
        raise ServingError("there is no earlier controller to go back to", fix="deploy or activate one")

    @property
    def previous(self) -> InCharge | None:
        """The controller that a rollback would put in charge."""
        return self._history[-2] if len(self._history) > 1 else None

    def _hand_over(self, in_charge: InCharge, reason: str) -> InCharge:
        if self.control is None:
            raise ServingError("the server is still starting", fix="try again in a moment")
        before = self.control.upcoming
        self.control.hand_over(self._guard(in_charge.controller), in_charge, reason)
        self._history.append(in_charge)
        return before

    # --- estimates

    def _energy_of(self, variant: str, instance: str) -> float:
        """J of one request: above idle, and its slice's share of idle power while it ran."""
        found = self._energies.get((variant, instance))
        if found is None:
            profile = self.model.profile
            name = slice_of(instance)
            share = profile.gpu.slice_type(name).compute / 7.0
            idle_j = profile.power.idle_w * share * profile.service_s[variant][name]
            found = self._energies[variant, instance] = profile.energy_j[variant][name] + idle_j
        return found

    def _estimate(self, variant: str, instance: str) -> tuple[float, float, str]:
        """Energy, J, and carbon, gCO2, of one answer; both modelled."""
        energy_j = self._energy_of(variant, instance)
        return energy_j, energy_j / JOULES_PER_KWH * self.scenario.pue * self.intensity, "modelled"

    def _carbon_of(self, variant: str, instance: str) -> tuple[float, str]:
        return self._estimate(variant, instance)[1:]

    @property
    def intensity(self) -> float:
        """Carbon intensity at the last decision, gCO2/kWh; the trace's first before it."""
        last = self.control.last if self.control else None
        return last.intensity if last else self.settings.carbon.at(self.settings.carbon_start)

    @property
    def configuration(self) -> ClusterConfiguration:
        """What takes requests now."""
        return self.reconciler.actual


def _fingerprint(scenario: Scenario, model: ClusterModel) -> dict[str, str]:
    content = json.dumps(scenario.to_dict(), sort_keys=True)
    return {
        "scenario": f"{scenario.name} {hashlib.sha256(content.encode()).hexdigest()[:12]}",
        "profile": f"{model.profile.name} {model.profile.hash[:12]}",
    }
