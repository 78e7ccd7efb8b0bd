"""Whatever is done to a scenario file, it loads or says in one sentence what is wrong; it never hangs."""

from __future__ import annotations

import math
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clover_rl.envs.overrides import keys_of, override
from clover_rl.envs.scenario import FOLDER, Scenario, load_scenario, scenario_names
from clover_rl.envs.signals import draw_signals, sample_signals
from clover_rl.errors import CloverError

FAST, SLOW = 2_000, 100_000
DRAWN_EVERY = 100
"""One in so many scenarios that load is also played: a draw takes longer than reading."""
PATIENCE_S = 20.0
"""Far more than any of this takes on a busy machine; only a hang takes longer."""

KEYS = [key.rpartition(".")[2] for key in keys_of()] + ["gpu", "<<", "", "folder", "1", "null", "Name"]
VALUES = (
    *"""~ § yes § off § 0 § -1 § 1 § 2 § 64 § 65 § 0.5 § 1e308 § 1e-308 § 1e400 § .inf § -.inf § -.inf §
.nan § 0x10 § 0o17 § 1_000 § 1:30:00 § -0.0 § '4' § four § 2021-03-01 § 2021-13-45 §
2021-03-01T00:00:00Z § [] § {} § [1, 2] § [0.1, x] § {a: 1} § {low: 0.1} § [[[[]]]] § &a [1] § *a §
&b [*b] § &c {<<: *c} § !!python/none § !!binary aGk= § !!bool x § !!int '' § !!set {a, b} §
!!omap [a: 1] § !!float x § !!timestamp x § !!str 4 § !own 4 § ? a § 'unclosed § "\\ud800" § "\\0" § é §
h100-albert § ../profiles/x.yaml § / § demo.yaml § average direct § blurred § - 1 § : : § # § %TAG §
@ § persistence § {files: [x.csv]} § {files: ['']} § {files: [/]} § 400 § 86400 § 604800 § 0.001 §
1e6""".replace("\n", " ").split(" § "),
    "",
    "|\n  text",
    "\x07",
    "\u2028",
    "9" * 400,
    "9" * 5000,
    "[" * 400,
    "x" * 5000 + ".yaml",
)


def mutated_text(text: str, rng: np.random.Generator) -> bytes:
    """A file after one to four blows: to lines, keys, values, characters and bytes."""
    for _ in range(int(rng.integers(1, 5))):
        lines = text.split("\n")
        at = int(rng.integers(len(lines)))
        key, value = str(rng.choice(KEYS)), VALUES[int(rng.integers(len(VALUES)))]
        kind = int(rng.integers(10))
        if kind == 0:
            lines[at] = f"{key}: {value}"
        elif kind == 1:
            lines[at] = lines[at].split(":")[0] + f": {value}"
        elif kind == 2:
            lines.insert(at, f"{' ' * int(rng.integers(4))}{key}: {value}")
        elif kind == 3:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        elif kind == 4:
            del lines[at]
        elif kind == 5:
            lines[at] = lines[at].replace(" ", "\t" if rng.random() < 0.5 else "", 1)
        elif kind == 6:
            lines[at] = f"{key}: {{{rng.choice(KEYS)}: {value}, {rng.choice(KEYS)}: 1}}"
        elif kind == 7 and lines[at]:
            where = int(rng.integers(len(lines[at])))
            lines[at] = lines[at][:where] + chr(int(rng.integers(1, 0x3000))) + lines[at][where + 1 :]
        elif kind == 8:
            lines = lines[at:] + lines[:at]
        else:
            lines[at] = lines[at] + f" {value}"
        text = "\n".join(lines)
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if raw and rng.random() < 0.05:
        raw[int(rng.integers(len(raw)))] = int(rng.integers(256))
    return bytes(raw)


def mutated_values(content: dict[str, Any], rng: np.random.Generator) -> bytes:
    """A scenario with every key, in which one to three numbers or words are others, most of them sensible."""
    for _ in range(int(rng.integers(1, 4))):
        keys = keys_of()
        *parents, last = keys[int(rng.integers(len(keys)))].split(".")
        inner: Any = content
        for parent in parents:
            inner = (
                inner[parent] if isinstance(inner.get(parent), dict) else inner.setdefault(parent + "x", {})
            )
        old = inner.get(last)
        if isinstance(old, int | float):
            inner[last] = float(old) * math.exp(rng.normal(0.0, 3.0)) if old else float(rng.normal())
            if rng.random() < 0.3:
                inner[last] = round(inner[last])
        elif rng.random() < 0.3:
            inner[last] = rng.choice(["persistence", "average direct", "h100-albert", "x"]).item()
    return yaml.dump(content, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)).encode()


def seeds() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in scenario_names():
        scenario = load_scenario(name, embodied={"kg_per_gpu": 100.0, "source": "label"})
        found.append(((FOLDER / f"{name}.yaml").read_text(), scenario.to_dict()))
    return found


def play(scenario: Scenario) -> None:
    """What an environment does with a scenario before its first step, but for the table."""
    for split in ("train", "test"):
        rng = np.random.default_rng(1)
        signals = draw_signals(scenario, 100.0, split, scenario.episode.days, rng)  # type: ignore[arg-type]
        steps = round(scenario.episode.days * 86_400.0 / (scenario.interval_s * scenario.time_scale))
        arrays = sample_signals(signals, scenario, steps)
        for array in (arrays.intensity, arrays.forecast, arrays.rate):
            assert np.isfinite(array).all()


def loads(path: Path, *, drawn: bool) -> bool:
    """Whether it loads; anything but an answer or one sentence fails the test."""
    started = time.monotonic()
    try:
        scenario = load_scenario(path)
        if drawn:
            play(scenario)
            _ = scenario.loaded_profile, scenario.sci
        good = True
    except CloverError as error:
        said = str(error)
        assert said.isprintable(), said
        assert 10 < len(said) < 700, said
        good = False
    assert time.monotonic() - started < PATIENCE_S, path.read_bytes()
    return good


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_a_mutated_scenario_loads_or_says_what_is_wrong(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    sources = seeds()
    path = tmp_path / "mutant.yaml"
    good = 0
    for index in range(count):
        text, content = sources[int(rng.integers(len(sources)))]
        raw = mutated_text(text, rng) if index % 4 else mutated_values(deepcopy(content), rng)
        path.write_bytes(raw)
        try:
            good += loads(path, drawn=good % DRAWN_EVERY == 0)
        except Exception:
            print(raw)
            raise
    # both happen often, or this tests one of them only
    assert 0.1 < good / count < 0.9


@pytest.mark.parametrize("count", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_a_mutated_setting_is_taken_or_refused_in_one_sentence(small_scenario: Scenario, count: int) -> None:
    rng = np.random.default_rng(count + 1)
    keys = [*keys_of(), "gpu", "", "load.", ".", "a.b.c"]
    good = 0
    for _ in range(count):
        settings = []
        for _ in range(int(rng.integers(1, 3))):
            equals = "=" if rng.random() < 0.95 else ""
            value = VALUES[int(rng.integers(len(VALUES)))]
            settings.append(f"{keys[int(rng.integers(len(keys)))]}{equals}{value}")
        try:
            override(small_scenario, settings)
            good += 1
        except CloverError as error:
            said = str(error)
            assert said.startswith("--set "), said
            assert said.isprintable(), said
    assert 0.02 < good / count < 0.9
