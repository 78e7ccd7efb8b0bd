"""Statistics: the counts and times that ModelStatistics reports, so that a load generator can reconcile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from clover_rl.serving.protocol import inference_pb2 as pb
from clover_rl.serving.routing.dispatcher import Answer

__all__ = ["ModelStatistics"]


@dataclass(slots=True)
class _Times:
    """Sums over the answered requests of one batch size, ns."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0


@dataclass(slots=True)
class ModelStatistics:
    """Counts since the server started. Every answered request counts once as success, queued and computed."""

    success_ns: int = 0
    queue_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_inference_ms: int = 0
    _by_rows: dict[int, _Times] = field(default_factory=dict)

    def answered(self, answer: Answer, rows: int, total_ns: int) -> None:
        """Count an answer to a request of `rows` rows that took `total_ns` altogether."""
        times = self._by_rows.get(rows)
        if times is None:
            times = self._by_rows[rows] = _Times()
        times.count += 1
        times.input_ns += answer.input_ns
        times.infer_ns += answer.compute_ns
        times.output_ns += answer.output_ns
        self.success_ns += total_ns
        self.queue_ns += answer.queue_ns
        self.last_inference_ms = time.time_ns() // 1_000_000

    def failure(self, total_ns: int) -> None:
        """Count a request that got an error after `total_ns`."""
        self.failed += 1
        self.failed_ns += total_ns

    def message(self, name: str, version: str) -> pb.ModelStatistics:
        """As the protocol carries it."""
        batches = sorted(self._by_rows.items())
        count = sum(times.count for _, times in batches)
        return pb.ModelStatistics(
            name=name,
            version=version,
            last_inference=self.last_inference_ms,
            inference_count=sum(rows * times.count for rows, times in batches),
            execution_count=count,
            inference_stats=pb.InferStatistics(
                success=pb.StatisticDuration(count=count, ns=self.success_ns),
                fail=pb.StatisticDuration(count=self.failed, ns=self.failed_ns),
                queue=pb.StatisticDuration(count=count, ns=self.queue_ns),
                compute_input=_sum(count, [times.input_ns for _, times in batches]),
                compute_infer=_sum(count, [times.infer_ns for _, times in batches]),
                compute_output=_sum(count, [times.output_ns for _, times in batches]),
                cache_hit=pb.StatisticDuration(),
                cache_miss=pb.StatisticDuration(),
            ),
            batch_stats=[
                pb.InferBatchStatistics(
                    batch_size=rows,
                    compute_input=_sum(times.count, [times.input_ns]),
                    compute_infer=_sum(times.count, [times.infer_ns]),
                    compute_output=_sum(times.count, [times.output_ns]),
                )
                for rows, times in batches
            ],
        )


def _sum(count: int, parts: list[int]) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=sum(parts))
