"""The event kernel: every request through one FIFO queue, tens of millions a second on one core.

One request is in flight per instance and the idle instance freed longest ago serves next:
start = max(arrival, smallest free time), of equal free times the lowest instance number.
"""

from clover_rl.simulation.kernel.segment import (
    QueueState,
    SegmentResult,
    assign,
    simulate_segment,
    simulate_steady,
)
from clover_rl.simulation.kernel.variates import seed_state

__all__ = ["QueueState", "SegmentResult", "assign", "seed_state", "simulate_segment", "simulate_steady"]
