"""A process of a bench: every variant resident on one slice, one job at a time, no server in between."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from clover_rl.cluster.application import TensorSpec

__all__ = ["Job", "Up", "example_arrays", "instance", "served"]

TOKENS = 30_000
"""Whole numbers of an input are drawn below this: the vocabulary of ALBERT."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one instance does in one test.

    Attributes:
        variant: which.
        rate: of Poisson arrivals, requests/s; None is back to back.
        seed: of the arrivals.
        begin, end: when, in seconds of `time.perf_counter`, which all processes of a machine share.
    """

    variant: str
    rate: float | None
    seed: int
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Up:
    """What a process says when it is ready.

    Attributes:
        sms: multiprocessors that it sees.
        trouble: why it is not ready; empty when it is.
    """

    sms: int
    trouble: str = ""


def instance(environment: Mapping[str, str], entry_points: Mapping[str, str], pipe: Connection) -> None:
    """Load every variant, say so, and do jobs until None comes.

    Args:
        environment: of the slice; CUDA must not have started in this process.
        entry_points: variant -> name of its model.
        pipe: jobs in; `Up`, then lists of (began, ended) out.
    """
    os.environ.update(environment)
    try:
        from clover_rl.serving.worker.definition import find_entry_point

        models = {variant: find_entry_point(name).load()() for variant, name in entry_points.items()}
        inputs = {variant: example_arrays(model.inputs) for variant, model in models.items()}
        for variant, model in models.items():
            model.infer(*inputs[variant])
        pipe.send(Up(_multiprocessors()))
    except Exception as error:  # the bench must hear of it, whatever it is
        pipe.send(Up(0, f"{type(error).__name__}: {error}"))
        return
    while (job := pipe.recv()) is not None:
        pipe.send(served(models[job.variant], inputs[job.variant], job))


def served(model: Any, arrays: Sequence[Any], job: Job) -> list[tuple[float, float]]:
    """Requests of one job: when each began and ended."""
    rng = random.Random(job.seed)
    done: list[tuple[float, float]] = []
    due = job.begin
    while True:
        if job.rate:
            due += rng.expovariate(job.rate)
        if max(due, time.perf_counter()) >= job.end:
            return done
        while time.perf_counter() < due:
            pass  # a sleep would end late
        began = time.perf_counter()
        model.infer(*arrays)
        done.append((began, time.perf_counter()))


def example_arrays(specs: Sequence[TensorSpec], seed: int = 0) -> list[Any]:
    """Random inputs: energy depends on the data, and zeros take less than real requests."""
    rng = np.random.default_rng(seed)
    found: list[Any] = []
    for spec in specs:
        shape = tuple(max(size, 1) for size in spec.shape)
        match spec.datatype:
            case "UINT8":
                found.append(rng.integers(0, 256, shape, dtype=np.uint8))
            case "INT64":
                found.append(rng.integers(0, TOKENS, shape, dtype=np.int64))
            case _:
                found.append(rng.standard_normal(shape, dtype=np.float32))
    return found


def _multiprocessors() -> int:
    import torch

    if not torch.cuda.is_available():
        return 0
    return int(torch.cuda.get_device_properties(0).multi_processor_count)
