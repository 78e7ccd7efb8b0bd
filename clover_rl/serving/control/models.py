"""What an application's variants are made of, as far as they can be served here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from clover_rl.cluster.application import Application
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError
from clover_rl.serving.worker.definition import ModelDefinition

__all__ = ["model_definitions"]


def model_definitions(profile: Profile, backend: str = "emulated") -> dict[str, ModelDefinition]:
    """Variant -> its model, for a profile's application.

    Args:
        profile: what is served.
        backend: the partition backend; an emulated profile runs on any, as its models run on the CPU.

    Raises:
        InputError: the profile needs another partition backend, the application has no signature, or a
            variant has nothing that could be loaded.
    """
    if profile.partition not in ("emulated", backend):
        raise InputError(
            f"profile `{profile.name}` is of networks on real GPUs, slices made with {profile.partition}, "
            f"and the partition backend is {backend}",
            fix=f"use --partition {profile.partition} with --devices, or an emulated scenario, as demo",
        )
    application = profile.application
    if not application.inputs or not application.outputs:
        raise InputError(
            f"application `{application.name}` has a profile but nothing to serve",
            fix="choose a scenario whose application has model files, as demo",
        )
    folder = _folder(application)
    return {
        name: ModelDefinition.of(
            folder / variant.model if folder is not None and variant.model else None,
            variant.entry_point,
            where=f"variant {name} of application {application.name}",
        )
        for name, variant in application.variants.items()
    }


def _folder(application: Application) -> Path | None:
    if application.folder is None:
        return None
    found = importlib.util.find_spec(application.folder)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"the package `{application.folder}` of application `{application.name}` is not installed",
            fix="install it",
        )
    return Path(next(iter(found.submodule_search_locations)))
