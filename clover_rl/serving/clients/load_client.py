"""LoadRun: labelled requests at a rate that changes over time, sent with tritonclient, and what came back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clover_rl.cluster.histogram import Histogram
from clover_rl.errors import InputError, MissingExtraError, ServingError
from clover_rl.serving.clients.arrivals import poisson_arrivals
from clover_rl.serving.clients.samples import Samples

__all__ = ["LoadReport", "LoadRun"]


@dataclass
class LoadReport:
    """What a client saw.

    Attributes:
        sent, answered, failed: requests; sent = answered + failed once the run is over.
        errors: status -> count.
        labelled, correct: rows of answers whose label is known, and those of them whose highest score it is.
        by_variant: variant -> answers.
        latency: of answers, as the client measured it.
        gco2: sum of the answers' estimates, gCO2.
    """

    sent: int = 0
    answered: int = 0
    failed: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    correct: int = 0
    by_variant: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    gco2: float = 0.0

    @property
    def accuracy(self) -> float | None:
        """Share of labelled answers that were right; None without one."""
        return self.correct / self.labelled if self.labelled else None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "errors": dict(self.errors),
            "accuracy": self.accuracy,
            "by_variant": dict(self.by_variant),
            "p50_ms": self.latency.quantile_ms(0.5),
            "p95_ms": self.latency.quantile_ms(0.95),
            "p99_ms": self.latency.quantile_ms(0.99),
            "gco2_estimate": self.gco2,
        }


class LoadRun:
    """Arrivals that never wait for answers, as real clients do not.

    Args:
        address: HOST:PORT of the inference port.
        model: the application's name.
        samples: what is sent, drawn at random.
        rate: requests/s at a second of the run, arrivals are Poisson then; None where `run` is given its own.
        seed: of arrivals and of which sample is sent.
        timeout_s: a client stops waiting after this long.

    Raises:
        MissingExtraError: tritonclient is not installed.
    """

    def __init__(
        self,
        address: str,
        model: str,
        samples: Samples,
        rate: Callable[[float], float] | None,
        *,
        seed: int = 0,
        timeout_s: float = 10.0,
    ) -> None:
        try:
            from tritonclient import grpc as triton
            from tritonclient.grpc import aio
        except ImportError:
            raise MissingExtraError("tritonclient is not installed", fix="install clover-rl[demo]") from None
        self._triton, self._aio = triton, aio
        self._address, self._model, self._rate = address, model, rate
        self._samples = samples
        self._rng = np.random.default_rng(seed)
        self._timeout_s = timeout_s
        self._open: set[asyncio.Task[None]] = set()
        self.report = LoadReport()
        """Where requests sent from now on are counted; may be replaced while the run goes on."""

    async def run(self, seconds: float, arrivals: Iterable[float] | None = None) -> LoadReport:
        """Send for some seconds, or at the times given, then wait for the answers still due.

        Raises:
            ServingError: nothing answers at the address.
        """
        client = self._aio.InferenceServerClient(self._address)
        try:
            if not await self._ready(client):
                raise ServingError("no ready server answers there", where=self._address, fix="check --to")
            if arrivals is None:
                if self._rate is None:
                    raise InputError("there is neither a rate nor a list of arrivals")
                arrivals = poisson_arrivals(self._rate, seconds, self._rng)
            await self._send(client, arrivals)
            while self._open:
                await asyncio.wait(set(self._open))
        finally:
            await client.close()
        return self.report

    async def _ready(self, client: Any) -> bool:
        try:
            return bool(await client.is_model_ready(self._model, client_timeout=5.0))
        except self._triton_error:
            return False

    @property
    def _triton_error(self) -> type[Exception]:
        from tritonclient.utils import InferenceServerException

        found: type[Exception] = InferenceServerException
        return found

    async def _send(self, client: Any, arrivals: Iterable[float]) -> None:
        began = time.perf_counter()
        for due in arrivals:
            wait = due - (time.perf_counter() - began)
            if wait > 0.0:
                await asyncio.sleep(wait)
            index = int(self._rng.integers(len(self._samples)))
            task = asyncio.get_running_loop().create_task(self._one(client, index))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _one(self, client: Any, index: int) -> None:
        report = self.report
        report.sent += 1
        samples, tensors = self._samples, []
        for name, rows in samples.inputs.items():
            tensor = self._triton.InferInput(name, list(rows.shape[1:]), samples.datatypes[name])
            tensors.append(tensor.set_data_from_numpy(rows[index]))
        began = time.perf_counter()
        try:
            answer = await client.infer(self._model, tensors, client_timeout=self._timeout_s)
        except self._triton_error as error:
            report.failed += 1
            report.errors[str(getattr(error, "status", lambda: "error")())] += 1
            return
        report.answered += 1
        report.latency.add((time.perf_counter() - began) * 1000.0)
        if samples.labels is not None:
            found = answer.as_numpy(samples.scores).argmax(axis=-1).ravel()
            report.labelled += len(found)
            report.correct += int((found == samples.labels[index].ravel()).sum())
        parameters = answer.get_response().parameters
        report.by_variant[parameters["variant"].string_param] += 1
        report.gco2 += parameters["gco2_estimate"].double_param
