"""Which policy a command line means: a file, the name of one shipped, or the scenario's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clover_rl.cli.output import note

if TYPE_CHECKING:
    from clover_rl.envs.scenario import Scenario

__all__ = ["controller_or_bundle", "default_policies"]


def default_policies(scenario: Scenario) -> list[Path]:
    """The bundle shipped for a scenario, where none was named; a note on stderr says why there is none."""
    from clover_rl.agents.bundle import open_bundle
    from clover_rl.agents.shipped import shipped_for
    from clover_rl.cli.models import model_of
    from clover_rl.errors import BundleError

    path = shipped_for(scenario.name)
    if path is None:
        note(f"note: no policy is shipped for `{scenario.name}`; name one with --policy to compare it")
        return []
    try:
        open_bundle(path).check(model_of(scenario))
    except BundleError as error:
        note(f"note: the policy shipped for `{scenario.name}` is left out: {error}")
        return []
    return [path]


def controller_or_bundle(name: str) -> str | Path:
    """A built-in controller's name as it is; else the path of a bundle, a file's or a shipped one's.

    Raises:
        InputError: neither; the message lists both.
    """
    from clover_rl.agents.registry import LIVE_CONTROLLERS
    from clover_rl.agents.shipped import resolve_bundle
    from clover_rl.errors import InputError
    from clover_rl.yamlfile import printable

    if name in LIVE_CONTROLLERS:
        return name
    try:
        return resolve_bundle(name)
    except InputError as error:
        raise InputError(
            f"unknown controller or policy `{printable(name)}`",
            fix=f"use a controller ({', '.join(LIVE_CONTROLLERS)}), or as a policy {error.fix}",
        ) from None
