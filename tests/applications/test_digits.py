"""The digits application: shipped weights against the record of what was measured on them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from clover_rl.applications.digits import VARIANT_FILES, folder, load_test_set, load_train_set
from clover_rl.errors import MissingExtraError

RECORD: dict[str, Any] = json.loads((folder() / "accuracy.json").read_text(encoding="utf-8"))
NAMES = list(VARIANT_FILES)


def open_variant(name: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(folder() / VARIANT_FILES[name], options, providers=["CPUExecutionProvider"])


def test_record_names_the_shipped_files() -> None:
    assert {name: row["file"] for name, row in RECORD["variants"].items()} == VARIANT_FILES
    assert {path.name for path in folder().glob("*.onnx*")} == set(VARIANT_FILES.values())
    assert sum((folder() / file).stat().st_size for file in VARIANT_FILES.values()) < 5_000_000


@pytest.mark.parametrize("name", NAMES)
def test_shipped_file_is_the_measured_one(name: str) -> None:
    content = (folder() / VARIANT_FILES[name]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == RECORD["variants"][name]["sha256"]


def test_test_set_is_the_one_the_accuracies_were_measured_on() -> None:
    images, labels = load_test_set()
    assert images.dtype == np.float32
    assert images.shape == (719, 64)
    assert labels.dtype == np.int64
    assert (images.min(), images.max()) == (0, 16)
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == RECORD["test_set_sha256"]


def test_no_test_image_was_trained_on_and_digits_are_equally_frequent() -> None:
    images, labels = load_train_set()
    test_images, test_labels = load_test_set()
    assert len(images) + len(test_images) == 1797
    assert not {row.tobytes() for row in images} & {row.tobytes() for row in test_images}
    shares = [np.bincount(part, minlength=10) / len(part) for part in (labels, test_labels)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.002)


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_reproduces_the_recorded_accuracy(name: str) -> None:
    images, labels = load_test_set()
    (scores,) = open_variant(name).run(["scores"], {"image": images})
    row = RECORD["variants"][name]
    assert row["test_images"] == len(labels)
    assert int((scores.argmax(axis=1) == labels).sum()) / len(labels) == row["accuracy"]


def test_accuracy_and_cost_rise_from_variant_to_variant() -> None:
    rows = [RECORD["variants"][name] for name in NAMES]
    for lower, higher in pairwise(rows):
        assert higher["accuracy"] >= lower["accuracy"] + 0.01
        assert higher["macs"] >= 2 * lower["macs"]
        assert higher["parameters"] > lower["parameters"]
    assert rows[-1]["cpu_ms"] < 10


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_has_the_same_signature_and_any_batch_size(name: str) -> None:
    session = open_variant(name)
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape[1:]) == ("image", "tensor(float)", [64])
    assert (target.name, target.type, target.shape[1:]) == ("scores", "tensor(float)", [10])
    assert isinstance(source.shape[0], str)
    images, _ = load_test_set()
    (together,) = session.run(["scores"], {"image": images[:7]})
    alone = np.concatenate([session.run(["scores"], {"image": image[None]})[0] for image in images[:7]])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 63), (1, 65), (64,), (1, 8, 8)])
def test_an_image_of_the_wrong_size_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument):
        open_variant(name).run(["scores"], {"image": np.zeros(shape, np.float32)})


def test_importing_the_application_and_running_a_variant_needs_no_torch() -> None:
    script = (
        "import sys\n"
        "from clover_rl.applications.digits import VARIANT_FILES, folder\n"
        "assert not {'sklearn', 'torch', 'onnxruntime'} & set(sys.modules), 'heavy import'\n"
        "sys.modules['torch'] = None\n"  # any import of it now fails
        "import numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(folder() / VARIANT_FILES['large'],\n"
        "                                       providers=['CPUExecutionProvider'])\n"
        "print(session.run(None, {'image': numpy.zeros((3, 64), numpy.float32)})[0].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(3, 10)"


def test_missing_scikit_learn_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn.*clover-rl\[demo\]"):
        load_test_set()
