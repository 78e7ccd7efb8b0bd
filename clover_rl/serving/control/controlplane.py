"""ControlPlane: status, deployment and rollback on a port of their own: loopback, or token and TLS."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from clover_rl.cluster.carbon import SciAccount
from clover_rl.errors import BundleError, CloverError, InputError
from clover_rl.serving.access import ControlAccess
from clover_rl.serving.control.control_thread import InCharge
from clover_rl.serving.control.transition_record import TransitionRecord
from clover_rl.serving.endpoint.dataplane import listen
from clover_rl.serving.endpoint.health import enable_reflection
from clover_rl.serving.endpoint.repository import RepositoryService
from clover_rl.serving.protocol import control_pb2 as pb
from clover_rl.serving.protocol import control_pb2_grpc as rpc
from clover_rl.serving.protocol import inference_pb2

if TYPE_CHECKING:
    from clover_rl.serving.control.runtime import Runtime

__all__ = ["MAX_BUNDLE_BYTES", "ControlPlane"]

MAX_BUNDLE_BYTES = 64 << 20
"""Uploads beyond this are refused before they are kept in memory."""

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class ControlPlane(rpc.ControlServiceServicer):
    """The control service of a runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._server: grpc.aio.Server | None = None
        self._changing = asyncio.Lock()

    async def start(self, access: ControlAccess, port: int) -> int:
        """Listen (port 0: any free one) and return the port.

        Raises:
            InputError: a file of its certificate cannot be read.
            ServingError: the address is in use, or the certificate or its key is none.
        """
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], interceptors=access.interceptors())
        rpc.add_ControlServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]
        RepositoryService(self._runtime.data_plane.model, self._runtime.dispatcher).add_to(server)
        enable_reflection(server, [pb.DESCRIPTOR, inference_pb2.DESCRIPTOR])
        found = await listen(server, access.address(port), access.credentials())
        self._server = server
        return found

    async def stop(self) -> None:
        """Close the port."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0.5)

    async def Status(self, request: pb.StatusRequest, context: _Context) -> pb.StatusResponse:
        """What the server does now."""
        runtime = self._runtime
        control = runtime.control
        reconciler = runtime.reconciler
        response = pb.StatusResponse(
            scenario=runtime.scenario.name,
            ready=runtime.dispatcher.ready,
            draining=runtime.dispatcher.draining,
            configuration=str(reconciler.actual),
            target=str(reconciler.target),
            transition_running=reconciler.busy,
            transitions=reconciler.transitions,
            trouble=reconciler.trouble or "",
            interval_s=runtime.scenario.interval_s,
            intensity_g_per_kwh=runtime.intensity,
            intensity_kind=runtime.scenario.carbon.kind,
            instances=[
                pb.Instance(
                    key=item.key,
                    variant=item.spec.variant,
                    state=item.state.value,
                    restarts=item.restarts,
                )
                for item in runtime.pool.status()
            ],
        )
        if reconciler.record is not None:
            response.transition.CopyFrom(_transition(reconciler.record, runtime.clock.now()))
        if control is None:
            return response
        charge, guard = control.upcoming, control.guard
        response.controller = charge.controller.name
        response.bundle_sha256 = charge.bundle_sha256 or ""
        response.bundle_name = charge.bundle_name or ""
        response.previous_controller = runtime.previous.controller.name if runtime.previous else ""
        response.time_s = control.cluster.now
        response.w = control.loop.objective.w
        response.sla_ms = control.loop.objective.sla_ms
        response.intervals = control.steps
        response.live_trials = control.live_trials
        response.guard_interventions = guard.interventions
        response.trouble = control.trouble or response.trouble
        if guard.predicted is not None:
            response.predicted_p95_ms = guard.predicted.p95_ms
            response.predicted_power_w = guard.predicted.power_w
        rows = runtime.ledger.interval_rows(limit=1)
        if rows:
            response.last.CopyFrom(_interval(rows[-1], runtime.sci))
        return response

    async def Deploy(
        self, requests: AsyncIterator[pb.DeployRequest], context: _Context
    ) -> pb.ActivationResponse:
        """Take a bundle in pieces, verify it, put it in charge."""
        content = bytearray()
        async for request in requests:
            content += request.chunk
            if len(content) > MAX_BUNDLE_BYTES:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"the bundle has more than {MAX_BUNDLE_BYTES >> 20} MiB",
                )
        return await self._change(context, "deploy", bytes(content))

    async def Activate(self, request: pb.ActivateRequest, context: _Context) -> pb.ActivationResponse:
        """Put a built-in controller in charge."""
        return await self._change(context, "activate", request.controller)

    async def Rollback(self, request: pb.RollbackRequest, context: _Context) -> pb.ActivationResponse:
        """Put the controller before back in charge."""
        return await self._change(context, "rollback")

    async def Intervals(self, request: pb.IntervalsRequest, context: _Context) -> pb.IntervalsResponse:
        """Completed intervals of the ledger."""
        runtime = self._runtime
        rows = runtime.ledger.interval_rows(limit=request.limit or None)
        return pb.IntervalsResponse(intervals=[_interval(row, runtime.sci) for row in rows])

    async def _change(self, context: _Context, verb: str, *arguments: Any) -> pb.ActivationResponse:
        """One change at a time, off the event loop: verifying and tuning take a while."""
        call = getattr(self._runtime, verb)
        try:
            async with self._changing:
                chosen, before = await asyncio.get_running_loop().run_in_executor(None, call, *arguments)
        except (BundleError, InputError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except CloverError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return _activation(chosen, before)


def _activation(chosen: InCharge, before: InCharge) -> pb.ActivationResponse:
    response = pb.ActivationResponse(
        controller=chosen.controller.name,
        bundle_sha256=chosen.bundle_sha256 or "",
        bundle_name=chosen.bundle_name or "",
        previous_controller=before.controller.name,
        warnings=getattr(chosen.controller, "warnings", []),
    )
    bundle = getattr(chosen.controller, "bundle", None)
    if bundle is not None:
        margins = bundle.parity.margins()
        response.parity_vectors = len(margins)
        response.near_ties = int((margins <= bundle.parity.tolerance()).sum())
    return response


def _transition(record: TransitionRecord, now_s: float) -> pb.Transition:
    ended = now_s if record.ended_s is None else record.ended_s
    return pb.Transition(
        number=record.number,
        source=str(record.source),
        target=str(record.target),
        steps=record.steps,
        steps_done=record.steps_done,
        tries=record.tries,
        outcome="" if record.outcome is None else record.outcome.value,
        trouble=record.trouble or "",
        seconds=ended - record.began_s,
    )


def _interval(row: dict[str, Any], account: SciAccount | None) -> pb.Interval:
    sci = None
    if account and row["carbon_g"] is not None and row["answered"]:
        sci = account.over(row["carbon_g"], row["duration_s"], row["answered"])
    facts = row["facts"]
    p95 = row["p95_ms"]
    return pb.Interval(
        start_s=row["start_s"],
        duration_s=row["duration_s"],
        controller=row["controller"],
        scored=bool(row["scored"]),
        intensity_g_per_kwh=row["intensity"],
        arrived=row["arrived"],
        answered=row["answered"],
        timed_out=facts["timed_out"],
        failed=facts["failed"],
        p95_ms=math.nan if p95 is None else p95,
        accuracy=row["accuracy"] or 0.0,
        energy_j=row["energy_j"],
        energy_kind=row["energy_kind"],
        carbon_g=row["carbon_g"] or 0.0,
        base_carbon_g=row["base_carbon_g"] or 0.0,
        reward=row["reward"] or 0.0,
        configuration=facts["configuration"],
        transitions=len(facts["plans"]),
        sla_ms=row["sla_ms"],
        w=row["w"],
        answered_by_variant=facts["answered"],
        embodied_g_per_request=sci.embodied_g_per_request if sci else None,
        sci_g_per_request=sci.g_per_request if sci else None,
    )
