"""Ledger: what was decided, emitted and served, in SQLite; a restart resumes from it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.interval import Interval
from clover_rl.cluster.objective import BaseLine, Objective
from clover_rl.cluster.profile import Profile
from clover_rl.control.controller import Decision
from clover_rl.control.loop import StepRecord
from clover_rl.control.state import RATE_LAGS, ControlState
from clover_rl.errors import InputError

__all__ = ["Activation", "Ledger", "Transition"]

VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS activations (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, controller TEXT NOT NULL, bundle TEXT,
    reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decisions (
    id INTEGER PRIMARY KEY, time_s REAL NOT NULL, controller TEXT NOT NULL, configuration TEXT NOT NULL,
    reason TEXT NOT NULL, review_after_s REAL, intervals INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS intervals (
    id INTEGER PRIMARY KEY, start_s REAL NOT NULL, duration_s REAL NOT NULL, controller TEXT NOT NULL,
    scored INTEGER NOT NULL, intensity REAL NOT NULL, w REAL NOT NULL, sla_ms REAL NOT NULL,
    reward REAL, carbon_g REAL, base_carbon_g REAL, accuracy REAL, p95_ms REAL, energy_j REAL NOT NULL,
    energy_kind TEXT NOT NULL, arrived INTEGER NOT NULL, answered INTEGER NOT NULL, facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS transitions (
    id INTEGER PRIMARY KEY, number INTEGER NOT NULL, began_s REAL NOT NULL, ended_s REAL,
    source TEXT NOT NULL, target TEXT NOT NULL, reached TEXT, outcome TEXT, tries INTEGER NOT NULL,
    trouble TEXT);
"""

_COLUMNS = (
    *("start_s", "duration_s", "controller", "scored", "intensity", "w", "sla_ms", "reward", "carbon_g"),
    *("base_carbon_g", "accuracy", "p95_ms", "energy_j", "energy_kind", "arrived", "answered", "facts"),
)

_TRANSITION = (
    *("number", "began_s", "ended_s", "source", "target", "reached", "outcome", "tries", "trouble"),
)
_TRANSITION_END = ("ended_s", "reached", "outcome", "tries", "trouble")


@dataclass(frozen=True, slots=True)
class Activation:
    """A controller that was put in charge: its name, the sha256 of its bundle where it has one, and when."""

    time_s: float
    controller: str
    bundle: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Transition:
    """How the cluster went from one configuration to another.

    Attributes:
        number: counts from 1 since the server's start.
        began_s, ended_s: times of the run, s; no end while it is under way, or when the server was killed.
        source, target, reached: configurations as text.
        outcome: how it ended, as the server names it; None while it is under way.
        tries: plans that were carried out for it.
        trouble: what failed.
    """

    number: int
    began_s: float
    ended_s: float | None
    source: str
    target: str
    reached: str | None
    outcome: str | None
    tries: int
    trouble: str | None


class Ledger:
    """One file. Every write is committed at once, so a kill loses at most the interval under way.

    Args:
        path: the SQLite file; made when absent.
        profile: of the cluster; configurations are read with it.
        fingerprint: facts that must be the same at a restart (scenario, profile), as text.

    Raises:
        InputError: no ledger, of another version, or of another cluster.
    """

    def __init__(self, path: Path, profile: Profile, fingerprint: Mapping[str, str]) -> None:
        self.path, self.profile = path, profile
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            self._check({"version": str(VERSION), **fingerprint})
            self._db.execute("UPDATE transitions SET outcome = 'interrupted' WHERE outcome IS NULL")
        except (sqlite3.DatabaseError, OSError) as error:
            raise InputError(
                f"cannot be used as a ledger ({error})", where=str(path), fix="name another --state folder"
            ) from None

    def _check(self, facts: Mapping[str, str]) -> None:
        known = dict(self._db.execute("SELECT key, value FROM facts"))
        for key, value in facts.items():
            if known.setdefault(key, value) != value:
                self._db.close()
                raise InputError(
                    f"the ledger was begun with {key} {known[key]}, this server has {value}",
                    where=str(self.path),
                    fix="name another --state folder",
                )
            self._write("INSERT OR IGNORE INTO facts VALUES (?, ?)", (key, value))

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            self._db.execute(statement, values)

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # --- writing

    def activated(self, activation: Activation) -> None:
        """Record who is in charge from now on."""
        self._write(
            "INSERT INTO activations (time_s, controller, bundle, reason) VALUES (?, ?, ?, ?)",
            (activation.time_s, activation.controller, activation.bundle, activation.reason),
        )

    def transition(self, transition: Transition) -> None:
        """Record a transition that begins, or how one that began has ended."""
        if transition.outcome is not None:
            values = tuple(getattr(transition, name) for name in _TRANSITION_END)
            self._write(
                f"UPDATE transitions SET {', '.join(f'{name} = ?' for name in _TRANSITION_END)} "
                "WHERE number = ? AND outcome IS NULL",
                (*values, transition.number),
            )
            return
        places = ", ".join("?" * len(_TRANSITION))
        self._write(
            f"INSERT INTO transitions ({', '.join(_TRANSITION)}) VALUES ({places})",
            tuple(getattr(transition, name) for name in _TRANSITION),
        )

    def decided(self, controller: str, state: ControlState, decision: Decision) -> None:
        """Record a decision with the state it was made in."""
        count = self._rows("SELECT COALESCE(MAX(id), 0) FROM intervals")[0][0]
        self._write(
            "INSERT INTO decisions (time_s, controller, configuration, reason, review_after_s, intervals, "
            "state) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                state.time_s,
                controller,
                str(decision.configuration),
                decision.reason,
                decision.review_after_s,
                count,
                json.dumps(_state_to_dict(state)),
            ),
        )

    def served(self, controller: str, interval: Interval, objective: Objective, intensity: float) -> None:
        """Record an interval that was served without a decision: a warm-up, or one whose control failed."""
        self._interval(controller, interval, objective, intensity, None)

    def stepped(self, controller: str, record: StepRecord) -> None:
        """Record a completed interval with its score."""
        score = asdict(record.score)
        self._interval(controller, record.interval, record.objective, record.intensity, score)

    def _interval(
        self,
        controller: str,
        interval: Interval,
        objective: Objective,
        intensity: float,
        score: Mapping[str, Any] | None,
    ) -> None:
        names = ("reward", "carbon_g", "base_carbon_g", "accuracy", "p95_ms")
        scores = [score[name] if score else None for name in names]
        self._write(
            "INSERT INTO intervals (start_s, duration_s, controller, scored, intensity, w, sla_ms, reward, "
            "carbon_g, base_carbon_g, accuracy, p95_ms, energy_j, energy_kind, arrived, answered, facts) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                interval.start,
                interval.duration_s,
                controller,
                int(score is not None),
                intensity,
                objective.w,
                objective.sla_ms,
                *scores,
                interval.energy.joules,
                interval.energy.kind,
                interval.arrived,
                interval.answers,
                json.dumps(interval.to_dict()),
            ),
        )

    # --- reading

    def transitions(self) -> list[Transition]:
        """Every transition, in order; one that a kill cut short says `interrupted`."""
        rows = self._rows(f"SELECT {', '.join(_TRANSITION)} FROM transitions ORDER BY id")
        return [Transition(*row) for row in rows]

    def last_activation(self) -> Activation | None:
        """Who was put in charge last."""
        rows = self._rows(
            "SELECT time_s, controller, bundle, reason FROM activations ORDER BY id DESC LIMIT 1"
        )
        return Activation(*rows[0]) if rows else None

    def activations(self) -> list[Activation]:
        """Everyone who was put in charge, in order."""
        rows = self._rows("SELECT time_s, controller, bundle, reason FROM activations ORDER BY id")
        return [Activation(*row) for row in rows]

    def last_configuration(self) -> ClusterConfiguration | None:
        """What was decided last."""
        rows = self._rows("SELECT configuration FROM decisions ORDER BY id DESC LIMIT 1")
        return ClusterConfiguration.parse(rows[0][0], self.profile) if rows else None

    def recent_intervals(self) -> list[Interval]:
        """The last RATE_LAGS completed intervals, latest last."""
        rows = self._rows("SELECT facts FROM intervals ORDER BY id DESC LIMIT ?", (RATE_LAGS,))
        return [Interval.from_dict(json.loads(row[0]), self.profile) for row in reversed(rows)]

    def states(self) -> Iterator[ControlState]:
        """Every state that a decision was made in, in order, as it was: for replays."""
        facts = {
            row[0]: Interval.from_dict(json.loads(row[1]), self.profile)
            for row in self._rows("SELECT id, facts FROM intervals ORDER BY id")
        }
        for count, text in self._rows("SELECT intervals, state FROM decisions ORDER BY id"):
            first = max(count - RATE_LAGS + 1, 1)
            intervals = tuple(facts[index] for index in range(first, count + 1))
            yield _state_from_dict(json.loads(text), intervals, self.profile)

    def interval_rows(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Completed intervals as plain rows, oldest first; the latest `limit` ones where given.

        `facts` is the interval as `Interval.to_dict` gives it.
        """
        found = self._rows(
            f"SELECT {', '.join(_COLUMNS)} FROM intervals ORDER BY id DESC LIMIT ?",
            (-1 if limit is None else limit,),
        )
        rows = [dict(zip(_COLUMNS, row, strict=True)) for row in reversed(found)]
        for row in rows:
            row["facts"] = json.loads(row["facts"])
        return rows


def _state_to_dict(state: ControlState) -> dict[str, Any]:
    content = {
        name: getattr(state, name)
        for name in (
            "time_s",
            "interval_s",
            "hour_of_week",
            "intensity",
            "intensity_past",
            "intensity_forecast",
            "available",
        )
    }
    return content | {
        "configuration": str(state.configuration),
        "objective": asdict(state.objective),
        "partial": state.partial.to_dict() if state.partial else None,
    }


def _state_from_dict(
    content: dict[str, Any], intervals: tuple[Interval, ...], profile: Profile
) -> ControlState:
    objective = content["objective"]
    objective["base"] = BaseLine(**objective["base"])
    partial = content["partial"]
    return ControlState(
        time_s=content["time_s"],
        interval_s=content["interval_s"],
        hour_of_week=content["hour_of_week"],
        configuration=ClusterConfiguration.parse(content["configuration"], profile),
        intervals=intervals,
        intensity=content["intensity"],
        intensity_past=tuple(content["intensity_past"]),
        intensity_forecast=tuple(content["intensity_forecast"]),
        objective=Objective(**objective),
        available=tuple(content["available"]),
        partial=Interval.from_dict(partial, profile) if partial else None,
    )
