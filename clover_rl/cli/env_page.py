"""The pages docs/envs/*.md: `python -m clover_rl.cli.env_page [FOLDER]` writes them and their figures."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from clover_rl.cli.docstrings import first_paragraphs, items_of
from clover_rl.control.codecs import Field
from clover_rl.control.factored import FactoredCodec
from clover_rl.envs.core import INVALID_PENALTY
from clover_rl.envs.info import INFO_KEYS, REWARD_TERMS
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.envs.scenario import scenario_names
from clover_rl.envs.settings import EpisodeSettings
from clover_rl.envs.summary import EPISODE_KEYS
from clover_rl.envs.vector import MIGClusterVec
from clover_rl.errors import InputError
from clover_rl.signals import LOAD_RANGES, TEST_ZONES, TRAIN_ZONES

__all__ = ["PAGES", "draw_figure", "page", "write_pages"]

PAGES = {"clover_rl/MIGCluster-v0": "MIGCluster-v0"}
"""Identifier -> name of its page."""

SPLIT, WEIGHT, SEED, STEPS, MARGIN = "test", 0.08, 4, 415, 0.15
"""The episode of the figure, its step, and the share of load that its actions keep in reserve."""

HEAD = """# {name}

Written by `python -m clover_rl.cli.env_page docs` from the code; a test keeps it equal to it. Numbers are
those of the default scenario, `{scenario}`.

{about}

![A frame of an episode]({title}.png)

Step {steps} of an episode with `render_mode="rgb_array", split="{split}", w={w}` and seed {seed}. It was
played in hindsight, by the table's best action for {margin} % more load than came: the figure shows what can
be done, and no policy's work. All of it is modelled.

```python
import clover_rl, gymnasium as gym

env = gym.make("{name}", scenario="{scenario}")
observation, info = env.reset(seed=1)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
```

`clover-rl env check {name}` checks it; [the tutorial](../tutorial.md) goes step by step.

## Constructor arguments

Everything is an argument of the constructor, and part of the spec; `reset` takes a seed and no options.
"""

SCENARIOS = """Scenarios: {names}, or the path of a YAML file of your own.
"""

OBSERVATION = """## Observation

`Box({size},)`, float32, always finite: x in its unit is scaled by declared constants and clipped. Nothing is
learned from data, so a policy carries no statistics along. `env.unwrapped.observation_codec` holds this
table.
"""

OBSERVATION_NOTE = """Load and latency are those of completed intervals. Forecasts come from the forecaster
that the argument or the scenario names, never from the future itself.
"""

ACTIONS = """## Actions

`actions="catalogue"`: `Discrete({size})`, an index into the scenario's catalogue: {full} configurations,
pruned to those that are nearly the best for some load, intensity, weight and SLA. `{base}` is BASE.
`env.unwrapped.action_codec.decode(action)` gives the configuration.

`actions="factored"`: `MultiDiscrete([{nvec}])`: GPUs in use less one, layout, then the variant on
{slices}; what the layout lacks is ignored. Every one of the {full} configurations can be said so.

`action_masks()` gives a flat array of what may be chosen now, as sb3-contrib's MaskablePPO asks for it: a GPU
in maintenance, or lost, forbids what would need it. It is never all false. A masked action does not raise: as
little as possible changes, it costs {invalid:g}, and `info["action_valid"]` is false.
"""

REWARD = """## Reward

Per interval, and the sum of `info["reward_terms"]`:

    w x dCarbon + (1 - w) x dAccuracy - penalty
    dCarbon   = 1 - energy x intensity / (BASE's energy for the arrived requests x reference intensity)
    dAccuracy = (accuracy - BASE's) / BASE's
    penalty   = a + b x min(p95 / SLA - 1, 2) where p95 > SLA, else 0

Here a = {a:g}, b = {b:g}, the reference intensity {reference:g} gCO2/kWh and the SLA {sla:.3g} ms. Unless w
is given, each episode draws it log-uniformly from {low:g} to {high:g}; it is part of the observation. Form
and w = 0.1 follow Clover (SC'23); the penalty is this project's.
"""

EPISODES = """## Episodes and splits

An episode lasts {days:g} days of the signals, {steps} steps of {interval:g} s, and ends by truncation; it
never terminates. It begins with BASE in its steady state. All that is random about it is drawn at `reset`
from the seed, so scalar and vector environments play the same episode for the same seed.

- `split="train"` draws grids from {train} and far beyond their
  statistics; the load's peak is 0.7 to 1.15 of the scenario's.
- `split="test"` draws {test}, which training never sees, as they are.

Loads are generated in both, their 99th percentile at {peak:g} % of BASE's capacity; the numbers of their
shape are drawn, see `clover_rl.signals.LoadShape`:
"""

ENDED = """At the end of an episode info also holds flat floats, for stable-baselines3's
`Monitor(env, info_keywords=(...))`:
"""

OTHER = """## Watching and recording

Render modes: {modes}, at {fps} frames a second. `human` opens a window, and prints
text where there is no display. `RecordVideo` and `render_mode="rgb_array_list"` work as usual.
`clover_rl.envs.recording.RecordEpisode` keeps episodes as Parquet; `clover-rl env replay FILE` plays one
again and compares every number.

## Many at once

`gym.make_vec("{name}", num_envs=..., vectorization_mode="vector_entry_point")` gives
`MIGClusterVec`, which plays the same episodes in arrays; `clover_rl.envs.sb3.SB3VecEnv` adapts it to
stable-baselines3.
"""


def page(name: str) -> str:
    """The text of an environment's page.

    Args:
        name: registered identifier.
    """
    env: Any = gym.make(name).unwrapped
    assert isinstance(env, MIGClusterEnv)
    vector = items_of(MIGClusterVec, "Args")
    return "\n".join(
        [
            HEAD.format(
                name=name,
                scenario=env.scenario.name,
                about=first_paragraphs(MIGClusterEnv),
                title=PAGES[name],
                steps=STEPS,
                split=SPLIT,
                w=WEIGHT,
                seed=SEED,
                margin=round(100 * MARGIN),
            ),
            _table(["argument", "default", "what it says"], _arguments()),
            SCENARIOS.format(names=", ".join(f"`{item}`" for item in scenario_names())),
            OBSERVATION.format(size=env.observation_codec.size),
            _table(["field", "numbers", "unit", "what", "scaled", "bounds"], _fields(env)),
            OBSERVATION_NOTE,
            _actions(env),
            _reward(env),
            _table(["term", "what"], [[f"`{key}`", text] for key, text in REWARD_TERMS.items()]),
            _episodes(env),
            _table(
                ["load shape", "drawn from"],
                [[f"`{key}`", f"{low:g} to {high:g}"] for key, (low, high) in LOAD_RANGES.items()],
            ),
            "## Info\n",
            _table(
                ["key", "unit", "what"], [[f"`{key}`", unit, text] for key, (unit, text) in INFO_KEYS.items()]
            ),
            *_ended(env),
            OTHER.format(
                name=name,
                modes=", ".join(f"`{mode}`" for mode in env.metadata["render_modes"]),
                fps=env.metadata["render_fps"],
            ),
            _table(
                ["argument", "what it says"],
                [[f"`{key}`", vector[key]] for key in ("num_envs", "autoreset_mode")],
            ),
        ]
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _arguments() -> list[list[str]]:
    own, episode = items_of(MIGClusterEnv, "Args"), items_of(EpisodeSettings, "Attributes")
    found: list[tuple[str, Any, str]] = [
        (item.name, item.default, own[item.name])
        for item in inspect.signature(MIGClusterEnv).parameters.values()
        if item.kind != inspect.Parameter.VAR_KEYWORD
    ]
    found += [(item.name, item.default, episode[item.name]) for item in fields(EpisodeSettings)]
    return [[f"`{name}`", f"`{default!r}`", text] for name, default, text in found]


def _fields(env: MIGClusterEnv) -> list[list[str]]:
    codec = env.observation_codec
    rows = []
    for field in codec.fields:
        first = codec.starts[field.name]
        place = f"{first}" if field.size == 1 else f"{first} to {first + field.size - 1}"
        bounds = f"{field.low:g} to {field.high:g}"
        rows.append([f"`{field.name}`", place, field.unit, field.about, _scaling(field), bounds])
    return rows


def _scaling(field: Field) -> str:
    """How a raw quantity x is scaled."""
    sign = "-" if field.offset > 0 else "+"
    shifted = f"(x {sign} {abs(field.offset):.4g})" if field.offset else "x"
    return shifted if field.scale == 1.0 else f"{shifted} / {field.scale:.4g}"


def _actions(env: MIGClusterEnv) -> str:
    whole = env.scenario.model(pruned=False)
    factored = FactoredCodec.of(whole.profile, whole.catalogue)
    return ACTIONS.format(
        size=len(env.model.catalogue),
        full=env.model.full_size,
        base=env.model.base,
        nvec=", ".join(map(str, factored.nvec)),
        slices=", ".join(factored.slices),
        invalid=INVALID_PENALTY,
    )


def _reward(env: MIGClusterEnv) -> str:
    objective, weights = env.core.objective, env.scenario.weights
    return REWARD.format(
        a=objective.penalty_base,
        b=objective.penalty_slope,
        reference=objective.reference_g_per_kwh,
        sla=env.model.sla_ms,
        low=weights.low,
        high=weights.high,
    )


def _episodes(env: MIGClusterEnv) -> str:
    return EPISODES.format(
        days=env.core.days,
        steps=env.core.steps,
        interval=env.scenario.interval_s,
        train=", ".join(TRAIN_ZONES),
        test=" and ".join(TEST_ZONES),
        peak=100 * env.scenario.load.peak_share,
    )


def _ended(env: MIGClusterEnv) -> list[str]:
    """The keys at the end of an episode, where this version gives them."""
    scenario = env.scenario
    short = MIGClusterEnv(scenario, days=scenario.interval_s * scenario.time_scale / 86_400.0)
    short.reset(seed=0)
    if not set(EPISODE_KEYS) <= short.step(0)[4].keys():
        return []
    return [ENDED, _table(["key", "what"], [[f"`{key}`", text] for key, text in EPISODE_KEYS.items()])]


def draw_figure(name: str, path: Path) -> None:
    """A frame in the middle of an episode.

    Raises:
        InputError: the picture cannot be written.
    """
    from matplotlib.image import imsave

    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # before the minute that a table may take
    except OSError as error:
        raise _unwritable(path, error) from None
    env: Any = gym.make(name, render_mode="rgb_array", w=WEIGHT, split=SPLIT).unwrapped
    env.reset(seed=SEED)
    for _ in range(STEPS):
        env.step(int(np.argmax(env.core.all_rewards(np.array([MARGIN]))[0])))
    metadata: dict[str, Any] = {"Software": None}  # no version of matplotlib in the picture
    try:
        imsave(path, env.render(), metadata=metadata)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot be written ({error})", where=str(path), fix="choose another folder")


def write_pages(folder: Path) -> list[Path]:
    """Write envs/NAME.md and envs/NAME.png for each environment into a folder.

    Raises:
        InputError: a file cannot be written.
    """
    written = []
    for name, title in PAGES.items():
        picture, text = folder / "envs" / f"{title}.png", folder / "envs" / f"{title}.md"
        draw_figure(name, picture)
        text.write_text(page(name), encoding="utf-8")
        written += [picture, text]
    return written


if __name__ == "__main__":
    for path in write_pages(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        print(path)
