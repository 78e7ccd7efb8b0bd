"""trace_window: the stretch of a trace that an experiment is made on, named on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from clover_rl.agents.windows import Window
from clover_rl.cli.chosen import chosen_scenario, chosen_windows
from clover_rl.envs.scenario import Scenario

__all__ = ["trace_parser", "trace_window"]


def trace_parser(program: str, about: str | None) -> argparse.ArgumentParser:
    """A parser with a scenario, its changes, and files of carbon and load."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("scenario")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--carbon", type=Path, required=True)
    parser.add_argument("--load", type=Path, required=True)
    parser.add_argument("--start", required=True)
    parser.add_argument("--days", type=float, default=14.0)
    return parser


def trace_window(asked: argparse.Namespace) -> tuple[Scenario, Window]:
    """The scenario and its window; raises InputError as `clover-rl evaluate` does."""
    scenario = chosen_scenario(asked.scenario, asked.set)
    (window,) = chosen_windows(
        scenario,
        scenario.model(),
        [asked.carbon],
        [asked.load],
        start=asked.start,
        days=asked.days,
        count=1,
        split="test",
        seed=1,
    )
    return scenario, window
