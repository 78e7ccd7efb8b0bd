"""Ledger: a file that a restart resumes from, and that refuses to be another cluster's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clover_rl.control.ledger import Activation, Ledger, Transition
from clover_rl.control.loop import ControlLoop, StepRecord
from clover_rl.control.state import RATE_LAGS
from clover_rl.errors import InputError
from clover_rl.simulation.model import ClusterModel

MakeLoop = Callable[..., ControlLoop]
FACTS = {"scenario": "small", "profile": "abc"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def keep(ledger: Ledger, loop: ControlLoop, steps: int) -> list[StepRecord]:
    loop.on_decision = lambda state, decision: ledger.decided("scripted", state, decision)
    records = []
    for _ in range(steps):
        records.append(loop.step())
        ledger.stepped("scripted", records[-1])
    return records


def test_an_empty_ledger_knows_nothing(path: Path, small_model: ClusterModel) -> None:
    ledger = Ledger(path, small_model.profile, FACTS)
    assert ledger.last_activation() is None
    assert ledger.last_configuration() is None
    assert ledger.recent_intervals() == []
    assert ledger.interval_rows() == []
    ledger.close()


def test_a_restart_finds_what_was_written(path: Path, small_model: ClusterModel, make_loop: MakeLoop) -> None:
    ledger = Ledger(path, small_model.profile, FACTS)
    loop = make_loop(7, 5, 11, 3)
    records = keep(ledger, loop, RATE_LAGS + 3)
    ledger.close()
    again = Ledger(path, small_model.profile, FACTS)
    assert again.recent_intervals() == loop.intervals
    assert again.last_configuration() == small_model.catalogue[3]
    assert [row["reward"] for row in again.interval_rows()] == [record.score.reward for record in records]
    assert [row["start_s"] for row in again.interval_rows(limit=2)] == [2100.0, 2400.0]
    assert len(list(again.states())) == RATE_LAGS + 3
    again.close()


def test_a_row_holds_facts_and_score(path: Path, small_model: ClusterModel, make_loop: MakeLoop) -> None:
    ledger = Ledger(path, small_model.profile, FACTS)
    loop = make_loop(8)
    warm = loop.warm_up()
    ledger.served("scripted", warm, loop.objective, 300.0)
    (record,) = keep(ledger, loop, 1)
    first, second = ledger.interval_rows()
    assert (first["scored"], first["reward"], first["arrived"]) == (0, None, warm.arrived)
    assert second["scored"] == 1
    assert second["carbon_g"] == record.score.carbon_g
    assert second["energy_kind"] == "modelled"
    assert (second["w"], second["sla_ms"]) == (0.1, small_model.sla_ms)
    assert second["facts"]["answered"] == record.interval.answered
    ledger.close()


def test_who_was_in_charge_is_kept_in_order(path: Path, small_model: ClusterModel) -> None:
    ledger = Ledger(path, small_model.profile, FACTS)
    entries = [Activation(0.0, "base", None, "server start"), Activation(5.0, "policy", "ab12", "deploy")]
    for entry in entries:
        ledger.activated(entry)
    assert ledger.activations() == entries
    assert ledger.last_activation() == entries[-1]
    ledger.close()


def test_transitions_are_kept_and_one_that_a_kill_cut_short_says_so(
    path: Path, small_model: ClusterModel
) -> None:
    begun = Transition(1, 5.0, None, "a", "b", None, None, 0, None)
    ended = replace(begun, ended_s=6.5, reached="a", outcome="rolled_back", tries=3, trouble="no room")
    cut_short = replace(begun, number=2, began_s=7.0)
    ledger = Ledger(path, small_model.profile, FACTS)
    for transition in (begun, ended, cut_short):
        ledger.transition(transition)
    assert ledger.transitions() == [ended, cut_short]
    ledger.close()
    again = Ledger(path, small_model.profile, FACTS)
    again.transition(begun)  # the successor counts anew
    assert again.transitions() == [ended, replace(cut_short, outcome="interrupted"), begun]
    again.close()


def test_another_clusters_ledger_is_refused(path: Path, small_model: ClusterModel) -> None:
    Ledger(path, small_model.profile, FACTS).close()
    with pytest.raises(InputError, match="begun with profile abc, this server has xyz"):
        Ledger(path, small_model.profile, FACTS | {"profile": "xyz"})


def test_a_file_that_is_no_ledger_is_refused(path: Path, small_model: ClusterModel) -> None:
    path.parent.mkdir()
    path.write_text("not a database at all, only some text that is long enough" * 20, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be used as a ledger"):
        Ledger(path, small_model.profile, FACTS)
