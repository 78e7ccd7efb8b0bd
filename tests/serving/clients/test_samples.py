"""Samples: what a load run sends, from a file or drawn, always as the model's signature asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError
from clover_rl.serving.clients.samples import Samples

IMAGES = (TensorSpec("images", "UINT8", (2, 4, 4, 3)),)
SCORES = (TensorSpec("scores", "FP32", (2, 10)),)
VECTOR, TEXT = TensorSpec("x", "FP32", (-1, 5)), TensorSpec("text", "BYTES", (1,))
DATATYPES = ("BOOL", "UINT8", "INT8", "INT32", "INT64", "UINT64", "FP16", "FP32", "FP64")


def saved(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "samples.npz"
    np.savez(path, **arrays)
    return path


def test_one_request_a_row_as_the_signature_asks_with_a_label_for_each_row_of_scores(tmp_path: Path) -> None:
    images = np.arange(3 * 2 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 2, 4, 4, 3)
    labels = np.array([[1, 2], [3, 4], [5, 6]])
    found = Samples.read(saved(tmp_path, images=images, labels=labels), IMAGES, SCORES, None)
    assert len(found) == 3
    assert (found.inputs["images"] == images).all()
    assert found.labels is not None
    assert found.labels.tolist() == labels.tolist()
    assert (found.scores, found.datatypes) == ("scores", {"images": "UINT8"})


def test_a_leading_axis_of_one_may_be_left_out_and_numbers_are_converted_where_nothing_is_lost(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, x=np.ones((4, 5)), text=np.array(["a", "b", "c", "d"]))
    found = Samples.read(path, (VECTOR, TEXT), SCORES, None)
    assert found.inputs["x"].shape == (4, 1, 5)
    assert found.inputs["x"].dtype == np.float32
    assert found.inputs["text"].tolist() == [["a"], ["b"], ["c"], ["d"]]
    assert found.labels is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.ones((2, 5), np.float32)}, "holds `pictures`, the model takes `x`; save one array"),
        ({"x": np.ones((2, 5), np.complex64)}, "array `x` is complex64, the model takes FP32"),
        (
            {"x": np.ones((2, 6), np.float32)},
            r"a row of array `x` has shape \[1, 6\], the model takes \[-1, 5\]",
        ),
        ({"x": np.ones(5, np.float32)}, "a row of array `x` has shape"),
        ({"x": np.array(["a"])}, "array `x` is <U1, the model takes FP32"),
        ({"x": np.ones((0, 5), np.float32)}, r"its arrays have 0 \(x\) rows"),
        ({"x": np.ones((2, 5)), "labels": np.ones(3, int)}, r"have 2 \(x\), 3 \(labels\) rows"),
        ({"x": np.ones((2, 5)), "labels": np.ones(2)}, "array `labels` is float64; save integers"),
        (
            {"x": np.ones((2, 5)), "labels": np.ones((2, 3), int)},
            "has 3 labels a request, `scores` answers 1",
        ),
        ({"x": np.array([None, 1], object)}, "cannot be read as arrays"),
        ({"x": np.full((2, 5), 1e60)}, "array `x` holds values that FP32 cannot"),
        ({"x": np.ones((2, 5)), "labels": np.array(3)}, "array `labels` is one number"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    outputs = (TensorSpec("scores", "FP32", (-1, 10)),)
    with pytest.raises(InputError, match=message) as refused:
        Samples.read(saved(tmp_path, **arrays), (VECTOR,), outputs, None)
    assert "samples.npz" in str(refused.value)


def test_integers_that_would_become_others_are_refused(tmp_path: Path) -> None:
    pixels = (TensorSpec("x", "UINT8", (-1, 2)),)
    kept = Samples.read(saved(tmp_path, x=np.array([[0, 255]], np.uint16)), pixels, SCORES, None)
    assert kept.inputs["x"].tolist() == [[[0, 255]]]
    with pytest.raises(InputError, match="holds values that UINT8 cannot"):
        Samples.read(saved(tmp_path, x=np.array([[0, 300]], np.uint16)), pixels, SCORES, None)


def test_labels_for_an_output_that_is_not_there_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.ones((2, 5)), labels=np.ones(2, int))
    with pytest.raises(InputError, match="the model has no output `logits`; use `scores`"):
        Samples.read(path, (VECTOR,), SCORES, "logits")
    with pytest.raises(InputError, match="the model has no output `logits`"):
        Samples.read(saved(tmp_path, x=np.ones((2, 5))), (VECTOR,), SCORES, "logits")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x93NUMPY"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"samples\.npz"):
        Samples.read(path, (VECTOR,), SCORES, None)
    with pytest.raises(InputError, match=r"absent\.npz.*save them with numpy\.savez"):
        Samples.read(tmp_path / "absent.npz", (VECTOR,), SCORES, None)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputError, match="is one array, not an archive"):
        Samples.read(tmp_path / "one.npy", (VECTOR,), SCORES, None)


@given(
    st.lists(
        st.tuples(st.sampled_from(DATATYPES), st.lists(st.sampled_from([-1, 1, 3]), max_size=3)),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 9),
)
def test_drawn_inputs_fit_any_signature_and_come_again_with_the_seed(
    tensors: list[tuple[str, list[int]]], seed: int
) -> None:
    signature = tuple(TensorSpec(f"x{at}", kind, tuple(shape)) for at, (kind, shape) in enumerate(tensors))
    found, again = (Samples.random(signature, np.random.default_rng(seed)) for _ in range(2))
    for spec in signature:
        rows = found.inputs[spec.name]
        assert rows.shape[1:] == tuple(abs(size) for size in spec.shape)
        assert found.datatypes[spec.name] == spec.datatype
        assert (rows == again.inputs[spec.name]).all()


def test_bytes_are_not_drawn() -> None:
    with pytest.raises(
        InputError, match="nothing can be drawn for input `text`, which is BYTES; give --data"
    ):
        Samples.random((TEXT,), np.random.default_rng(0))
