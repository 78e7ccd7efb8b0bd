"""Models: the three kinds there are, each in a process of its own, and nothing else is ever loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clover_rl.cluster.application import TensorSpec
from clover_rl.errors import InputError, ServingError
from clover_rl.serving.clock import RealClock
from clover_rl.serving.instances.pool import InstancePool
from clover_rl.serving.routing.dispatcher import Answer, Dispatcher, InstanceLostError
from clover_rl.serving.worker.definition import ModelDefinition, ModelKind
from clover_rl.serving.worker.messages import Tensor
from clover_rl.serving.worker.spec import InstanceSpec
from clover_rl.serving.worker.tensors import decode_bytes, encode_bytes
from tests.serving.serving_kit import FEATURES, INPUTS, OUTPUTS, QUICK, WEIGHTS


def ask(
    model: ModelDefinition,
    *requests: Sequence[Tensor],
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
) -> list[Answer | BaseException]:
    """Each request's answer, or its error, from one instance of the model."""

    async def run() -> list[Answer | BaseException]:
        dispatcher = Dispatcher(RealClock())
        pool = InstancePool(dispatcher, inputs=inputs, outputs=outputs, settings=QUICK)
        try:
            async with asyncio.timeout(60):
                await pool.reconcile({"a": InstanceSpec("v", model, 0.0, 0)})
                calls = (dispatcher.infer(request) for request in requests)
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert all(status.restarts == 0 for status in pool.status())
                return found
        finally:
            await pool.close()

    return asyncio.run(run())


def words_and(factors: list[float], words: list[bytes]) -> tuple[Tensor, ...]:
    numbers = np.array(factors, np.float32)
    return Tensor((len(words),), encode_bytes(words)), Tensor(numbers.shape, numbers.tobytes())


def test_an_entry_point_serves_and_its_errors_are_told_apart(package: Path) -> None:
    good, bad, bug, after = ask(
        ModelDefinition.of(None, "scale", where="test"),
        words_and([1.5, 2.0], [b"a", "ü".encode()]),
        words_and([1.0], [b"a", b"b"]),
        words_and([-1.0], [b"a"]),
        words_and([3.0], [b"c"]),
    )
    assert isinstance(good, Answer)
    assert decode_bytes(good.tensors[0].data) == [b"a!", "ü!".encode()]
    assert np.frombuffer(good.tensors[1].data, np.float32).tolist() == [3.0, 4.0]
    assert isinstance(bad, InputError)
    assert isinstance(bug, ServingError)
    assert "KeyError" in bug.what
    assert "a bug" not in bug.what
    assert isinstance(after, Answer)


def test_a_model_that_breaks_its_own_signature_is_refused_at_its_warm_up(package: Path) -> None:
    with pytest.raises(ServingError, match="has 2 outputs, but gave 1"):
        ask(ModelDefinition.of(None, "lying", where="test"))


def number(value: float) -> tuple[Tensor, ...]:
    return (Tensor((), np.float32(value).tobytes()),)


def test_a_value_that_does_not_fit_its_output_is_the_models_fault_and_scalars_stay_scalars(
    package: Path,
) -> None:
    good, overflow, after = ask(
        ModelDefinition.of(None, "level", where="test"), number(100.0), number(300.0), number(-0.0)
    )
    assert isinstance(good, Answer)
    assert (good.tensors[0].shape, bytes(good.tensors[0].data)) == ((), b"d")
    assert isinstance(overflow, ServingError)
    assert "output 'level' is no INT8" in overflow.what
    assert isinstance(after, Answer)


def test_a_process_whose_device_failed_is_replaced(package: Path) -> None:
    async def run() -> None:
        dispatcher = Dispatcher(RealClock())
        pool = InstancePool(dispatcher, settings=QUICK)
        try:
            async with asyncio.timeout(60):
                spec = InstanceSpec("v", ModelDefinition.of(None, "level", where="test"), 0.0, 0)
                await pool.reconcile({"a": spec})
                with pytest.raises(InstanceLostError):
                    await dispatcher.infer(number(-1.0))
                assert pool.status()[0].restarts > 0
                assert (await dispatcher.infer(number(1.0))).instance == "a"
        finally:
            await pool.close()

    asyncio.run(run())


def test_bytes_that_are_no_text_are_refused_for_that_reason(package: Path) -> None:
    (refused,) = ask(ModelDefinition.of(None, "scale", where="test"), words_and([1.0], [b"\xff\xd8"]))
    assert isinstance(refused, InputError)
    assert "no UTF-8 text" in refused.what


def test_a_module_with_safetensors_serves(package: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    file = package / "weights.safetensors"
    weight = torch.from_numpy(WEIGHTS.T.copy())
    save_file({"weight": weight, "bias": torch.zeros(3)}, file)
    definition = ModelDefinition.of(file, "linear", where="test")
    assert definition.kind is ModelKind.TORCH
    rows = np.random.default_rng(1).normal(size=(2, FEATURES)).astype(np.float32)
    good, bad = ask(
        definition,
        (Tensor(rows.shape, rows.tobytes()),),
        (Tensor((1, 2), bytes(8)),),
        inputs=INPUTS,
        outputs=OUTPUTS,
    )
    assert isinstance(good, Answer)
    scores = np.frombuffer(good.tensors[0].data, np.float32).reshape(good.tensors[0].shape)
    np.testing.assert_allclose(scores, rows @ WEIGHTS, rtol=1e-4, atol=1e-5)
    assert isinstance(bad, InputError)
    save_file({"weight": weight}, file)
    with pytest.raises(ServingError, match="module or weights cannot be loaded"):
        ask(definition, inputs=INPUTS, outputs=OUTPUTS)


def test_an_entry_point_that_fails_is_an_error_without_its_texts(package: Path) -> None:
    with pytest.raises(ServingError, match=r"the entry point cannot be loaded \(OSError\)") as caught:
        ask(ModelDefinition.of(None, "broken", where="test"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "entry_point", "sentence"),
    [
        ("model.pt", None, "cannot be loaded from the file `model.pt`"),
        ("model.pkl", "scale", "cannot be loaded from the file `model.pkl` and an entry point"),
        ("weights.safetensors", None, "cannot be loaded from the file"),
        ("model.onnx", "scale", "cannot be loaded from the file"),
        ("missing.onnx", None, "has no model file `missing.onnx`"),
        (None, None, "cannot be loaded from nothing"),
        (None, "os:system", "no installed packages offer the model `os:system`"),
    ],
)
def test_whatever_is_not_allowed_is_refused_before_a_process_starts(
    package: Path, file: str | None, entry_point: str | None, sentence: str
) -> None:
    for name in ("model.pt", "model.pkl", "weights.safetensors", "model.onnx"):
        (package / name).touch()
    path = package / file if file else None
    with pytest.raises(InputError, match=sentence) as caught:
        ModelDefinition.of(path, entry_point, where="variant v")
    assert str(package) not in str(caught.value)


def test_a_process_resolves_entry_points_by_itself_and_takes_no_module_path(package: Path) -> None:
    smuggled = ModelDefinition(ModelKind.PYTHON, None, "clover_test_models:Scale")
    with pytest.raises(ServingError, match="no installed packages offer"):
        ask(smuggled)


def test_tensors_of_megabytes_come_back_whole_and_stay_valid(text_model: ModelDefinition) -> None:
    words = [[bytes([65 + n]) * size] for n, size in enumerate((1_000_000, 60_000, 3_000_000, 5))]
    requests = [(Tensor((1,), encode_bytes(w)), Tensor((1, 2), bytes(4))) for w in words]
    answers = ask(text_model, *requests)
    assert [decode_bytes(a.tensors[0].data) for a in answers if isinstance(a, Answer)] == words
