"""TensorBoard: every physical figure, once, in one run, with a picture of what was chosen."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.plugins.hparams import plugin_data_pb2  # type: ignore[import-untyped]

from clover_rl.agents.train.choices import PANELS, Choices
from clover_rl.agents.train.run import TrainingInterrupted, figures_of
from clover_rl.agents.train.trainer import resume, train
from clover_rl.agents.train.validation import Validation
from clover_rl.envs.core import EnvironmentCore
from clover_rl.envs.scenario import Scenario
from clover_rl.simulation.model import ClusterModel
from tests.agents.conftest import quick


def events_of(run: Path) -> EventAccumulator:
    """The events of a run, which all lie in one folder."""
    (folder,) = {path.parent for path in run.rglob("events*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_every_physical_figure_is_a_scalar_with_the_value_recorded(run: Path) -> None:
    events = events_of(run)
    history = json.loads((run / "training.json").read_text())["history"]
    names = (
        *("objective", "static", "oracle", "gap", "above_static", "carbon_g_per_request", "carbon_saving"),
        *("base_carbon_g_per_request", "accuracy_loss", "p95_over_sla", "violations", "active_gpus"),
        *("transitions_per_day", "energy_j_per_request", "headroom_share"),
    )
    for tag in (
        *(f"validation/{name}" for name in names),
        *(f"terms/{n}" for n in ("carbon", "accuracy", "penalty")),
    ):
        wanted = [(e["states"], e[tag.split("/")[1]]) for e in history]
        wanted = [pair for pair in wanted if pair[1] is not None]
        shown = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
        assert [event.step for event in shown] == [step for step, _ in wanted], tag
        assert [event.value for event in shown] == pytest.approx([value for _, value in wanted], rel=1e-6), (
            tag
        )


def test_losses_entropies_rates_and_reward_terms_are_shown_of_every_phase(
    run: Path, other_run: tuple[str, Path]
) -> None:
    tags = set(events_of(run).Tags()["scalars"])
    assert {"exact/loss", "exact/entropy", "exact/learning_rate", "train/entropy_loss"} <= tags
    name, other = other_run
    tags = set(events_of(other).Tags()["scalars"])
    assert {"train/loss", "train/learning_rate" if name != "dqn" else "rollout/exploration_rate"} <= tags
    assert {"rollout/carbon", "rollout/accuracy", "rollout/penalty", "rollout/invalid"} <= tags


def test_hyperparameters_stand_in_the_run_itself(run: Path) -> None:
    events = events_of(run)
    found = {}
    for name, metadata in ((n, events.SummaryMetadata(n)) for n in events.PluginTagToContent("hparams")):
        data = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content)
        found[name] = data
    values = found["_hparams_/session_start_info"].session_start_info.hparams
    assert values["clone_share"].number_value == 0.2
    assert values["hidden"].string_value == "[32, 32]"
    assert values["seed"].number_value == 3.0
    best = json.loads((run / "training.json").read_text())["best"]
    assert events.Scalars("best/objective")[0].value == pytest.approx(best["objective"])


def test_the_choices_of_the_best_policy_are_a_picture(run: Path) -> None:
    events = events_of(run)
    history = json.loads((run / "training.json").read_text())["history"]
    best, steps = -np.inf, []
    for entry in history:
        if entry["objective"] > best:
            best = entry["objective"]
            steps.append(entry["states"])
    assert {image.step for image in events.Images("choices")} <= set(steps)
    assert events.Images("choices")[-1].step == steps[-1]
    assert (events.Images("choices")[-1].width, events.Images("choices")[-1].height) == (1100, 360)


def test_what_was_written_after_the_last_checkpoint_is_not_shown_twice(
    small_scenario: Scenario, tmp_path: Path
) -> None:
    count = [0]

    def stop() -> bool:
        count[0] += 1
        return count[0] == 7

    recipe = quick("dqn", steps=640, validation_episodes=1)
    with pytest.raises(TrainingInterrupted):
        train(small_scenario, recipe, tmp_path, stop=stop)
    resume(tmp_path, scenario=small_scenario)
    history = json.loads((tmp_path / "training.json").read_text())["history"]
    shown = events_of(tmp_path).Scalars("validation/objective")
    assert [event.step for event in shown] == [entry["states"] for entry in history]


def test_choices_are_averaged_where_they_were_made(
    small_scenario: Scenario, small_model: ClusterModel
) -> None:
    core = EnvironmentCore(small_scenario, small_model, 2)
    for row in range(2):
        core.reset_row(row, np.random.default_rng(row))
    core.mean_intensity[0], core.mean_intensity[1] = 100.0, 500.0
    core.rate[0], core.rate[1] = 0.0, small_model.baseline.capacity
    labels = [item.label() for item in small_model.catalogue.configurations]
    chosen = np.array([labels.index("1x[4g:L 3g:L] + 1 parked"), small_model.base])
    choices = Choices(small_model)
    watched = choices.watching(lambda _: chosen)
    for _ in range(3):
        assert watched(core) is chosen
    assert choices.active_gpus == 1.5
    intensity, load, means = choices.grid()
    assert (intensity[0], intensity[-1], load[0], load[-1]) == (100.0, 500.0, 0.0, 1.0)
    assert means.shape == (len(PANELS), 12, 12)
    assert means[:, 0, 0].tolist() == [1.0, 2.0, 1.0]
    assert means[:, -1, -1].tolist() == [2.0, 1.0, 1.0]
    assert np.isnan(means[:, 0, 1:]).all()
    assert len(choices.figure("title").axes) == 2 * len(PANELS)


@pytest.mark.parametrize(("gap", "share"), [(0.0019, None), (0.004, 0.5)])
def test_a_validation_has_no_share_of_next_to_nothing(gap: float, share: float | None) -> None:
    numbers = dict.fromkeys((field.name for field in fields(Validation)), 0.0)
    found = Validation(
        **(
            numbers
            | {"objective": gap / 2, "oracle": gap, "base_carbon_g_per_request": 2.0}
            | {"carbon_g_per_request": 0.5}
        )
    )
    figures = figures_of(found)
    assert figures["headroom_share"] == (None if share is None else pytest.approx(share))
    assert figures["gap"] == gap
    assert figures["above_static"] == gap / 2
    assert figures["carbon_saving"] == 0.75
