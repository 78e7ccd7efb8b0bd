"""Samples: what a load generator sends, request by request, and the labels that it compares answers with."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError

__all__ = ["LABELS", "Samples"]

LABELS = "labels"
"""Array of a samples file that is no input."""

_DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_RANDOM_COUNT = 16
_RANDOM_INTEGERS = 100
"""Random integers stay below this, so that they are valid tokens and pixels anywhere."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Requests to draw from.

    Attributes:
        inputs: input -> its tensors, shape (n, *shape of one request's tensor).
        datatypes: input -> datatype on the wire, as FP32.
        labels: what the answers should be, shape (n, ...): integers, one for each row of an answer's scores;
            None where nobody knows.
        scores: output whose largest value along the last axis is the answer.
    """

    inputs: Mapping[str, NDArray[Any]]
    datatypes: Mapping[str, str]
    labels: NDArray[np.int64] | None = None
    scores: str = "scores"

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @classmethod
    def of_digits(cls) -> Samples:
        """The held-out images of the application `digits`.

        Raises:
            MissingExtraError: scikit-learn is not installed.
        """
        from clover_rl.applications.digits import load_test_set

        images, labels = load_test_set()
        return cls({"image": images[:, None, :]}, {"image": "FP32"}, labels)

    @classmethod
    def random(cls, signature: Sequence[TensorSpec], rng: np.random.Generator) -> Samples:
        """Inputs that fit a signature and mean nothing: normal floats, integers from 0 to 99.

        Args:
            signature: the model's inputs; a size of -1 becomes 1.
            rng: draws them.

        Raises:
            InputError: an input is BYTES, of which nobody knows what would be valid.
        """
        inputs = {}
        for spec in signature:
            dtype = _dtype(spec)
            shape = (_RANDOM_COUNT, *(abs(size) for size in spec.shape))
            if dtype is np.object_:
                raise InputError(
                    f"nothing can be drawn for input `{spec.name}`, which is BYTES", fix="give --data"
                )
            if np.issubdtype(dtype, np.floating):
                inputs[spec.name] = rng.standard_normal(shape).astype(dtype)
            else:
                inputs[spec.name] = rng.integers(
                    2 if dtype is np.bool_ else _RANDOM_INTEGERS, size=shape
                ).astype(dtype)
        return cls(inputs, {spec.name: spec.datatype for spec in signature})

    @classmethod
    def read(
        cls, path: Path, signature: Sequence[TensorSpec], outputs: Sequence[TensorSpec], scores: str | None
    ) -> Samples:
        """An .npz file: an array for each input, one request a row, and perhaps `labels`.

        A row may leave out a leading size of 1 or -1: a file of images (n, 64) serves a model of (-1, 64).

        Args:
            path: of the file.
            signature: the model's inputs.
            outputs: the model's outputs.
            scores: the output that labels are compared with; the first when None.

        Raises:
            InputError: it cannot be read, does not fit the signature, or its labels do not fit the scores.
        """
        where = str(path)
        arrays = _arrays(path)
        labels = arrays.pop(LABELS, None)
        if labels is not None and labels.ndim == 0:
            raise InputError(f"array `{LABELS}` is one number", where=where, fix="save one a request")
        names = [spec.name for spec in signature]
        if sorted(arrays) != sorted(names):
            raise InputError(
                f"holds {_listed(arrays)}, the model takes {_listed(names)}",
                where=where,
                fix=f"save one array for each input, and `{LABELS}` if they are known",
            )
        inputs = {spec.name: _fitted(arrays[spec.name], spec, where) for spec in signature}
        counts = {
            name: len(array)
            for name, array in {**inputs, **({LABELS: labels} if labels is not None else {})}.items()
        }
        if len(set(counts.values())) != 1 or not min(counts.values()):
            raise InputError(
                f"its arrays have {', '.join(f'{count} ({name})' for name, count in counts.items())} rows",
                where=where,
                fix="give every request one row in each array",
            )
        output = scores or outputs[0].name
        _output(outputs, output)
        found = cls(inputs, {spec.name: spec.datatype for spec in signature}, None, output)
        if labels is None:
            return found
        return cls(found.inputs, found.datatypes, _labels(labels, inputs, outputs, output, where), output)


def _dtype(spec: TensorSpec) -> type[np.generic]:
    if spec.datatype not in _DTYPES:
        raise InputError(
            f"input `{spec.name}` is {spec.datatype}, which numpy lacks", fix="use a client of your own"
        )
    return _DTYPES[spec.datatype]


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    where = str(path)
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise InputError("is one array, not an archive", where=where, fix="save it with numpy.savez")
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"cannot be read as arrays ({error})", where=where, fix="save them with numpy.savez, no objects"
        ) from None


def _fitted(array: NDArray[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    """The array with the signature's datatype and number of axes."""
    dtype = _dtype(spec)
    if dtype is np.object_:
        if array.dtype.kind not in "SU":
            raise InputError(
                f"array `{spec.name}` is {array.dtype}, the model takes BYTES", where=where, fix="save text"
            )
    elif not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(
            f"array `{spec.name}` is {array.dtype}, the model takes {spec.datatype}",
            where=where,
            fix=f"save it as {np.dtype(dtype).name}",
        )
    if array.ndim == len(spec.shape) and spec.shape[:1] in ((1,), (-1,)):
        array = array[:, None]
    fits = array.ndim == len(spec.shape) + 1 and all(
        wanted in (-1, size) for wanted, size in zip(spec.shape, array.shape[1:], strict=True)
    )
    if not fits:
        raise InputError(
            f"a row of array `{spec.name}` has shape {list(array.shape[1:])}, "
            f"the model takes {list(spec.shape)}",
            where=where,
            fix="save one request a row",
        )
    with np.errstate(over="ignore"):
        found = np.ascontiguousarray(array.astype(dtype))
    if dtype is not np.object_ and _lost(array, found):
        raise InputError(
            f"array `{spec.name}` holds values that {spec.datatype} cannot", where=where, fix="scale them"
        )
    return found


def _lost(array: NDArray[Any], found: NDArray[Any]) -> bool:
    """Whether integers became others, or finite numbers infinite."""
    if np.issubdtype(found.dtype, np.floating):
        return bool((np.isfinite(array) & ~np.isfinite(found)).any())
    return bool((array != found).any())


def _labels(
    labels: NDArray[Any],
    inputs: Mapping[str, NDArray[Any]],
    outputs: Sequence[TensorSpec],
    name: str,
    where: str,
) -> NDArray[np.int64]:
    spec = _output(outputs, name)
    if labels.dtype.kind not in "iu":
        raise InputError(f"array `{LABELS}` is {labels.dtype}", where=where, fix="save integers")
    first = next(iter(inputs.values()))
    batch = first.shape[1] if first.ndim > 1 else 1
    wanted = tuple(batch if size == -1 else size for size in spec.shape[:-1])
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] != int(np.prod(wanted)):
        raise InputError(
            f"array `{LABELS}` has {flat.shape[1]} labels a request, `{name}` answers {int(np.prod(wanted))}",
            where=where,
            fix="save one label for each row of scores",
        )
    return flat.astype(np.int64)


def _output(outputs: Sequence[TensorSpec], name: str) -> TensorSpec:
    spec = next((output for output in outputs if output.name == name), None)
    if spec is None:
        raise InputError(
            f"the model has no output `{name}`",
            where="--scores",
            fix=f"use {_listed(o.name for o in outputs)}",
        )
    return spec


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
