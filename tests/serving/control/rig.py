"""An emulated cluster behind a real endpoint, without a control loop: transitions and deaths at will."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from clover_rl.applications.digits import load_test_set
from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.planner import plan_transition
from clover_rl.cluster.profile import Profile
from clover_rl.serving.clock import RealClock
from clover_rl.serving.control.models import model_definitions
from clover_rl.serving.control.reconciler import Reconciler
from clover_rl.serving.control.transition_record import TransitionRecord
from clover_rl.serving.endpoint.dataplane import SERVICE_NAME, DataPlane
from clover_rl.serving.endpoint.served_model import ServedModel
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.partition.emulated import EmulatedPartition
from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import CompletedRequest, Dispatcher

__all__ = ["Cluster", "Sent", "running_cluster", "send_load"]


@dataclass(slots=True)
class Sent:
    """A request as its client saw it: monotonic times, s; the status, and who answered."""

    began_s: float
    ended_s: float = 0.0
    code: str = ""
    details: str = ""
    variant: str = ""
    instance: str = ""


@dataclass
class Cluster:
    """What runs."""

    profile: Profile
    address: str
    dispatcher: Dispatcher
    pool: InstancePool
    reconciler: Reconciler
    completed: list[CompletedRequest] = field(default_factory=list)
    states: list[tuple[float, ClusterConfiguration]] = field(default_factory=list)
    records: list[TransitionRecord] = field(default_factory=list)

    def go(self, target: ClusterConfiguration, load_rps: float | None = None) -> None:
        """Turn to a target."""
        plan = plan_transition(self.reconciler.actual, target, self.profile, load_rps=load_rps)
        self.reconciler.apply(plan)

    def deployed(self, instance: str, at_s: float, slack_s: float = 0.05) -> bool:
        """Whether an instance took requests at a time, by the record of what served when.

        The record is written in the same turn of the event loop as the change, but some microseconds apart,
        or as long as the system lets another process run in between.
        """
        for index, (since, configuration) in enumerate(self.states):
            until = self.states[index + 1][0] if index + 1 < len(self.states) else float("inf")
            within = since - slack_s <= at_s <= until + slack_s
            if within and any(item.key == instance for item in configuration.instances):
                return True
        return False


@asynccontextmanager
async def running_cluster(profile: Profile, start: ClusterConfiguration) -> AsyncIterator[Cluster]:
    """A cluster that serves `start`."""
    clock = RealClock()
    application = profile.application
    dispatcher = Dispatcher(clock, capacity=4096)
    pool = InstancePool(dispatcher, inputs=application.inputs, outputs=application.outputs)
    states: list[tuple[float, ClusterConfiguration]] = []
    records: list[TransitionRecord] = []
    gpus = len(start.gpus)
    reconciler = Reconciler(
        pool,
        EmulatedPartition(gpus, profile.gpu, profile.times),
        profile,
        model_definitions(profile),
        gpus,
        on_state=lambda configuration, _: states.append((clock.now(), configuration)),
        hold=True,
        clock=clock,
        on_record=lambda record: records.append(record) if record.outcome is not None else None,
    )
    endpoint = DataPlane(ServedModel.of(application), dispatcher)
    port = await endpoint.start("127.0.0.1:0")
    cluster = Cluster(profile, f"127.0.0.1:{port}", dispatcher, pool, reconciler)
    cluster.states, cluster.records = states, records
    dispatcher.observe(cluster.completed.append)
    try:
        cluster.go(start)
        await reconciler.settled()
        assert reconciler.trouble is None
        yield cluster
    finally:
        await reconciler.close()
        await endpoint.stop(0.5)
        await pool.close()


async def send_load(
    cluster: Cluster,
    rate: float,
    stop: asyncio.Event,
    sent: list[Sent],
    *,
    seed: int = 0,
    timeout_s: float | None = None,
) -> None:
    """Poisson arrivals until told to stop, then wait for every answer that is due."""
    rng = np.random.default_rng(seed)
    images, _ = load_test_set()
    request = pb.ModelInferRequest(
        model_name=cluster.profile.application.name, raw_input_contents=[images[:1].tobytes()]
    )
    request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
    data = request.SerializeToString()
    async with grpc.aio.insecure_channel(cluster.address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE_NAME}/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString
        )

        async def one(item: Sent) -> None:
            try:
                answer = await call(data, timeout=timeout_s)
                item.code = "OK"
                item.variant = answer.parameters["variant"].string_param
                item.instance = answer.parameters["instance"].string_param
            except grpc.aio.AioRpcError as error:
                item.code, item.details = error.code().name, error.details() or ""
            item.ended_s = time.monotonic()

        due = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            due += float(rng.exponential(1.0 / rate))
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            sent.append(Sent(time.monotonic()))
            task = asyncio.create_task(one(sent[-1]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks)
