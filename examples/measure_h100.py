"""Measure service times and power of mixes of instances on one NVIDIA GPU, slices made with MPS.

    python examples/measure_h100.py --out measured --layout "2g 2g 2g 1g" --layout "3g 3g"
    clover-rl validate h100 --measurements measured/h100_mps_efficientnet_8img.csv

Needs torch with CUDA, torchvision, transformers, nvidia-ml-py and nvidia-cuda-mps-control; MIG off, nobody
else on the card. Changes none of the card's settings. A layout takes about two minutes. The files under
clover_rl/cluster/catalogue/measurements/other-card were made by this script.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import random
import subprocess
import tempfile
import time
import zlib
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pynvml
import torch  # imported before the fork, so that instances start at once; CUDA is untouched until then
import torchvision
import transformers

THREAD_PERCENT = {"1g": 12, "2g": 24, "3g": 46, "4g": 49, "7g": 100}
PIXELS = {"b1": 240, "b3": 300, "b5": 456, "b7": 600}
ALBERT = {  # hidden size, layers, heads, inner size
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "xlarge": (2048, 24, 16, 8192),
    "xxlarge": (4096, 12, 64, 16384),
}
APPLICATIONS = {"efficientnet_8img": list(PIXELS), "albert_384tok": list(ALBERT)}
COLUMNS = (
    *("layout", "test", "gpu_w", "sm_clock_mhz", "slice", "variant"),
    *("offered_per_s", "served_per_s", "mean_ms", "p50_ms", "p95_ms", "utilisation"),
)
SETTLE_S = 0.35
AFTER_S = 0.25
"""Instances are busy this long before and after the window in which power is read."""


@dataclass(frozen=True)
class Job:
    """What one instance does in one test: back to back without a rate, else Poisson arrivals."""

    variant: str
    rate: float | None
    seed: int
    begin: float
    end: float


def network(variant: str) -> tuple[Any, torch.Tensor]:
    """A variant with random weights on the card, and its input on the host."""
    if variant in PIXELS:
        with torch.device("cuda"):
            net = getattr(torchvision.models, f"efficientnet_{variant}")(weights=None)
        images = torch.randn(8, 3, PIXELS[variant], PIXELS[variant]).half()
        layout = torch.channels_last
        return net.half().to(memory_format=layout).eval(), images.to(memory_format=layout)
    hidden, layers, heads, inner = ALBERT[variant]
    config = transformers.AlbertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        attn_implementation="sdpa",
    )
    with torch.device("cuda"):
        net = transformers.AlbertModel(config)
    net = net.half().eval()
    return (lambda tokens: net(tokens).last_hidden_state), torch.randint(0, 30000, (1, 384))


class Runner:
    """A variant as one CUDA graph, with its input and output in pinned memory."""

    def __init__(self, variant: str) -> None:
        self.net, host = network(variant)
        self.host = host.pin_memory()
        self.input = self.host.cuda()
        self.stream = torch.cuda.Stream()
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self.net(self.input)
        self.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.output = self.net(self.input)
        self.result = torch.empty(self.output.shape, dtype=self.output.dtype).pin_memory()

    def once(self) -> tuple[float, float]:
        """Serve one request; when it began and ended."""
        began = time.perf_counter()
        with torch.cuda.stream(self.stream):
            self.input.copy_(self.host, non_blocking=True)
            self.graph.replay()
            self.result.copy_(self.output, non_blocking=True)
        self.stream.synchronize()
        return began, time.perf_counter()


def instance(percent: int, pipe: Connection) -> None:
    """One process per slice: all variants resident, one job at a time."""
    os.environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
    torch.manual_seed(0)
    with torch.inference_mode():
        runners = {name: Runner(name) for names in APPLICATIONS.values() for name in names}
        torch.cuda.synchronize()
        pipe.send(torch.cuda.get_device_properties(0).multi_processor_count)
        while job := pipe.recv():
            pipe.send(served(runners[job.variant], job))


def served(runner: Runner, job: Job) -> list[tuple[float, float]]:
    """Requests of one job: when each began and ended."""
    rng = random.Random(job.seed)
    done = []
    due = job.begin
    while True:
        if job.rate:
            due += rng.expovariate(job.rate)
        if max(due, time.perf_counter()) >= job.end:
            return done
        while time.perf_counter() < due:
            pass
        done.append(runner.once())


def energy_after(card: Any, moment: float) -> tuple[float, float]:
    """The card's energy counter, J, at its first step after a moment, and when; it steps every 0.1 s."""
    time.sleep(max(0.0, moment - time.perf_counter()))
    first = pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    while (energy := pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) == first:
        time.sleep(0.0005)
    return energy / 1000.0, time.perf_counter()


class Bench:
    """Instances on the slices of one layout."""

    def __init__(self, layout: str, card: Any) -> None:
        self.layout, self.card = layout, card
        self.slices = layout.split()
        self.pipes: list[Connection] = []
        self.processes = []
        fork = multiprocessing.get_context("fork")
        for name in self.slices:
            here, there = fork.Pipe()
            process = fork.Process(target=instance, args=(THREAD_PERCENT[name], there), daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        print(layout, "SMs", [pipe.recv() for pipe in self.pipes], flush=True)

    def close(self) -> None:
        """End the instances."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join()

    def test(
        self, name: str, jobs: dict[int, tuple[str, float | None]], window_s: float
    ) -> tuple[list[list[object]], dict[int, float]]:
        """Rows of one test, and the mean service time of each busy instance, ms.

        Args:
            name: of the test.
            jobs: number of a slice -> variant and rate; None is back to back.
            window_s: how long power is read.
        """
        begin = time.perf_counter() + 0.03
        end = begin + SETTLE_S + window_s + AFTER_S
        for index, (variant, rate) in jobs.items():
            seed = zlib.crc32(f"{name} {index}".encode())  # the same in every run
            self.pipes[index].send(Job(variant, rate, seed, begin, end))
        energy_0, since = energy_after(self.card, begin + SETTLE_S)
        time.sleep(window_s / 2)
        clock = pynvml.nvmlDeviceGetClockInfo(self.card, pynvml.NVML_CLOCK_SM)
        energy_1, until = energy_after(self.card, since + window_s - 0.05)
        watts = f"{(energy_1 - energy_0) / (until - since):.1f}"
        if not jobs:
            return [[self.layout, name, watts, *[""] * 9]], {}
        rows: list[list[object]] = []
        means = {}
        for index, (variant, rate) in jobs.items():
            ran = [(a, b, min(b, until) - max(a, since)) for a, b in self.pipes[index].recv()]
            ran = [item for item in ran if item[2] > 0.0]
            times = sorted(1000.0 * (b - a) for a, b, _ in ran)
            if not times:
                continue
            means[index] = sum(times) / len(times)
            # a request that reaches over an edge of the window counts for the part inside
            rate_served = sum(inside / (b - a) for a, b, inside in ran) / (until - since)
            busy = sum(inside for _, _, inside in ran) / (until - since)
            offered = f"{rate:.2f}" if rate else ""
            quantiles = (times[len(times) // 2], times[int(0.95 * len(times))])
            numbers = (f"{value:.3f}" for value in (means[index], *quantiles, busy))
            slice_name = self.slices[index]
            rows.append([self.layout, name, watts, clock, slice_name, variant, offered, f"{rate_served:.2f}"])
            rows[-1] += numbers
        return rows, means


def measure(bench: Bench, application: str, writer: Any, mixes: int) -> None:
    """All tests of one application on one layout."""
    names = APPLICATIONS[application]
    rng = random.Random(bench.layout + application)
    everywhere = range(len(bench.slices))
    writer.writerows(bench.test("idle", {}, 1.0)[0])
    alone_ms: dict[tuple[str, str], float] = {}
    for slice_name in dict.fromkeys(bench.slices):
        index = bench.slices.index(slice_name)
        for variant in names:
            rows, means = bench.test("alone", {index: (variant, None)}, 1.2)
            alone_ms[slice_name, variant] = means[index]
            writer.writerows(rows)
    for variant in names:
        writer.writerows(bench.test("same", dict.fromkeys(everywhere, (variant, None)), 1.6)[0])
    for mix in range(mixes):
        chosen = [rng.choice(names) for _ in everywhere]
        if len(set(chosen)) == 1:
            chosen[-1] = names[(names.index(chosen[-1]) + 1) % len(names)]
        writer.writerows(bench.test(f"mix{mix}", {i: (v, None) for i, v in enumerate(chosen)}, 1.6)[0])
        for level in (0.3, 0.6):
            rates = {
                index: (variant, 1000.0 * level / alone_ms[bench.slices[index], variant])
                for index, variant in enumerate(chosen)
            }
            writer.writerows(bench.test(f"mix{mix}open{level}", rates, 2.4)[0])


def main() -> None:
    """Measure the layouts asked for, under one MPS daemon of our own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for one CSV an application")
    parser.add_argument(
        "--layout", action="append", required=True, help='slices, as "4g 2g 1g"; may be repeated'
    )
    parser.add_argument("--mixes", type=int, default=4, help="mixes of variants per layout and application")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    files = {name: (arguments.out / f"h100_mps_{name}.csv").open("w", newline="") for name in APPLICATIONS}
    writers = {name: csv.writer(file, lineterminator="\n") for name, file in files.items()}
    for writer in writers.values():
        writer.writerow(COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("PIPE", "LOG"):
            os.environ[f"CUDA_MPS_{kind}_DIRECTORY"] = str(Path(folder) / kind)
            (Path(folder) / kind).mkdir()
        subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
        try:
            for layout in arguments.layout:
                bench = Bench(layout, card)
                for application, writer in writers.items():
                    measure(bench, application, writer, arguments.mixes)
                    files[application].flush()
                bench.close()
        finally:
            subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", check=False)
            for file in files.values():
                file.close()


if __name__ == "__main__":
    main()
