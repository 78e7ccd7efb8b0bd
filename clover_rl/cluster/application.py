"""Application and Variant: one logical model for clients, in several qualities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clover_rl.cluster.provenance import Provenance
from clover_rl.errors import InputError

__all__ = ["Application", "TensorSpec", "Variant"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of an application's signature.

    Attributes:
        name: name on the wire.
        datatype: Open Inference Protocol datatype, as FP32.
        shape: dimensions; -1 stands for any size (the batch).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A model variant.

    Attributes:
        name: short name, unique within the application.
        accuracy: share of 1 (top-1, mAP, F1: the application says which).
        accuracy_provenance: where that number comes from.
        model: file of the network, .onnx or .safetensors, relative to the application's folder; None where
            there is none.
        entry_point: name under which an installed package offers the model in Python, or builds the module
            that takes the .safetensors file; None for ONNX.
    """

    name: str
    accuracy: float
    accuracy_provenance: Provenance
    model: str | None = None
    entry_point: str | None = None


@dataclass(frozen=True, slots=True)
class Application:
    """One logical model with one signature and variants, smallest first (the largest is BASE's).

    Attributes:
        name: what clients ask for.
        title: for people.
        metric: what `accuracy` measures.
        request: what one request holds.
        variants: name to variant, smallest first.
        inputs, outputs: the signature; empty where the application cannot be served here.
        folder: importable package that holds the variants' files, or None.
        idempotent: whether a request may run twice; one whose instance died is then tried once more.
    """

    name: str
    title: str
    metric: str
    request: str
    variants: Mapping[str, Variant] = field(hash=False)
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    folder: str | None = None
    idempotent: bool = True

    def variant(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            InputError: there is none.
        """
        try:
            return self.variants[name]
        except KeyError:
            raise InputError(
                f"unknown variant `{name}`", where=self.name, fix=f"use one of {', '.join(self.variants)}"
            ) from None

    @property
    def largest(self) -> Variant:
        """The variant that BASE serves: the last, most accurate one."""
        return list(self.variants.values())[-1]

    @property
    def smallest(self) -> Variant:
        """The variant that CO2OPT serves: the first one."""
        return next(iter(self.variants.values()))

    def accuracy_of(self, answered: Mapping[str, int]) -> float:
        """Accuracy weighted by the requests that each variant answered; the largest variant's when none."""
        total = sum(answered.values())
        if not total:
            return self.largest.accuracy
        return sum(self.variants[name].accuracy * count for name, count in answered.items()) / total
