"""A bundle's manifest: which keys it has, of which types."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Manifest"]

Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class _Part(BaseModel):
    # strict: JSON has types of its own, and a text is no number; extra: a signer may add keys
    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class _Field(_Part):
    name: Text
    unit: str
    size: Count
    offset: Number
    scale: Positive
    low: Number
    high: Number
    about: str


class _Observation(_Part):
    fields: Annotated[list[_Field], Field(min_length=1)]
    slots: list[Annotated[list[Text], Field(min_length=2, max_length=2)]]
    gpus: Count
    base_sla_ms: Positive


class _Actions(_Part):
    catalogue: Annotated[list[Text], Field(min_length=1)]
    catalogue_hash: Text


class Manifest(_Part):
    """What a manifest must hold; see `export_model` for what the keys say."""

    format: int
    members: dict[str, str]
    name: Text
    scenario: dict[str, Any]
    application: Text
    gpu: Text
    gpus: Count
    profile: Text
    profile_hash: Text
    observation: _Observation
    actions: _Actions
    training: dict[str, Any]
    versions: dict[str, str]
