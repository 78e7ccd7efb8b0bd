"""How much of the headroom a controller without foresight could take, if it knew how the load moves.

The controller here cheats: it is told the load's bins, and the distribution of the changes between the bins
of this very trace. Within a bin it takes the last interval's load for granted; where a bin ends it takes the
exact expectation, over that distribution, of the table's objective. What it leaves of the headroom, only
somebody who knows the coming load itself can have.

    python -m benchmarks.foresight SCENARIO --carbon FILE --load FILE --start T --bin-s 600
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.trace_window import trace_parser, trace_window
from clover_rl.agents.best_static import StaticRuns
from clover_rl.agents.margins import oracle_for, tuned_margin
from clover_rl.agents.runs import run_controller, summarise
from clover_rl.control.controller import Decision
from clover_rl.control.scorer import ActionScorer
from clover_rl.control.state import ControlState
from clover_rl.simulation.model import ClusterModel

QUANTILES = np.linspace(0.004, 0.998, 60)


class ToldController:
    """Expects of the next bin what this trace's bins do on the whole.

    Args:
        model: what is believed of the cluster.
        timeout_s: a client stops waiting after this long.
        margin: for what chance does within an interval.
        changes: factors between one bin's load and the next one's, shape (k,), equally likely.
        every: intervals in a bin.
        into: intervals of a bin that have passed at the first decision.
    """

    def __init__(
        self,
        model: ClusterModel,
        timeout_s: float,
        margin: float,
        changes: NDArray[np.float64],
        every: int,
        into: int,
    ) -> None:
        self.name, self.knows, self.live_trials = "told", "the load's bins and how they change", 0
        self.space_size = len(model.catalogue)
        self.model, self.changes, self.every, self.into = model, changes, every, into
        self.scorer = ActionScorer(model, timeout_s, margin)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def decide(self, state: ControlState) -> Decision:
        """The best expectation."""
        decided = round(state.time_s / state.interval_s) - 1  # the first interval is a warm-up
        begins = (decided + self.into) % self.every == 0
        factors = self.changes if begins else np.ones(1)
        rate = state.rates[0]
        scores = [self.scorer.scores(state, rate * factor, state.intensity) for factor in factors]
        return Decision(self.model.catalogue[int(np.mean(scores, axis=0).argmax())], "expected")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the share of headroom at each weight."""
    parser = trace_parser("benchmarks.foresight", __doc__)
    parser.add_argument("--bin-s", type=float, required=True, help="length of the load's bins, s")
    parser.add_argument("--w", type=float, action="append", help="weight of carbon; may be repeated")
    parser.add_argument("--margin", type=float, default=0.03)
    asked = parser.parse_args(arguments)
    scenario, window = trace_window(asked)
    model = scenario.model()
    every = round(asked.bin_s / scenario.interval_s)
    signals, steps, seed = window.signals, window.steps, window.seed
    first = signals.load.start_s
    into = round((signals.load_start - first) / scenario.interval_s) % every
    edges = first + asked.bin_s * np.arange(int((signals.load.end_s - first) / asked.bin_s) + 1)
    bins = signals.load.means_between(edges)
    changes = np.exp(np.quantile(np.diff(np.log(bins)), QUANTILES))
    margin = tuned_margin(scenario, model, "oracle")
    statics = StaticRuns(scenario, model, signals, steps=steps, seed=seed)
    for w in asked.w or scenario.weights.evaluate:
        static = statics.best(w)[1].objective
        told = ToldController(model, scenario.timeout_s, asked.margin, changes, every, into)
        found = {}
        for controller in (oracle_for(scenario, model, signals, margin), told):
            records = run_controller(scenario, model, controller, signals, steps=steps, w=w, seed=seed)
            found[controller.name] = summarise(records, model)
        gap = found["oracle"].objective - static
        share = (found["told"].objective - static) / gap
        print(
            f"w = {w:g}: gap {gap:.4f}, share of headroom {share:.2f}, "
            f"SLA held in {100 * found['told'].sla_held:.2f} % of intervals"
        )


if __name__ == "__main__":
    main()
