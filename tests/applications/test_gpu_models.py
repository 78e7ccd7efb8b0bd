"""GPU applications: entry points, signatures, weights, and tiny networks of the same code on the CPU."""

from __future__ import annotations

import importlib
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clover_rl.applications.gpu import albert, efficientnet, rtdetr
from clover_rl.applications.gpu.graphed import GraphedModel, constants_on_device
from clover_rl.applications.gpu.weights import WEIGHTS_FOLDER, initialise
from clover_rl.cluster.application import TensorSpec
from clover_rl.cluster.profile_file import load_application
from clover_rl.errors import InputError, ServingError

APPLICATIONS = {"efficientnet": efficientnet, "albert": albert, "rtdetr": rtdetr}
PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
TINY_ALBERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY_DETECTOR: dict[str, Any] = {
    "backbone": {
        "embedding_size": 8,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 16, 16],
        "layer_type": "basic",
        "out_features": ["stage2", "stage3", "stage4"],
    },
    "encoder_in_channels": [16, 16, 16],
    "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 32,
    "decoder_in_channels": [16, 16, 16],
    "d_model": 16,
    "decoder_ffn_dim": 32,
    "decoder_layers": 1,
    "num_queries": 7,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_variant_has_an_entry_point_and_the_applications_signature(name: str) -> None:
    application, module = load_application(name), APPLICATIONS[name]
    declared = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["clover_rl.models"]
    for variant in application.variants.values():
        where, attribute = declared[variant.entry_point].split(":")
        assert getattr(importlib.import_module(where), attribute)
    assert (application.inputs, application.outputs) == (module.INPUTS, module.OUTPUTS)
    assert set(application.variants) == set(getattr(module, "SHAPES", None) or efficientnet.PIXELS)


def scaled(factor: float) -> Any:
    torch = pytest.importorskip("torch")

    class Scaled(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, values: Any) -> Any:
            return values.float() * factor, values.long() + 1

    return Scaled()


def test_a_request_is_answered_and_another_shape_blamed() -> None:
    inputs = [TensorSpec("x", "UINT8", (2, 3))]
    outputs = [TensorSpec("y", "FP32", (2, 3)), TensorSpec("n", "INT64", (2, 3))]
    model = GraphedModel(partial(scaled, 2.0), inputs, outputs)
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    product, number = model.infer(values)
    assert np.allclose(product, 2.0 * values)
    assert (number == values + 1).all()
    with pytest.raises(ValueError, match="shape"):
        model.infer(values[:1])


def test_a_folder_without_the_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    monkeypatch.setenv(WEIGHTS_FOLDER, str(tmp_path))
    with pytest.raises(InputError, match=r"albert/base\.safetensors"):
        albert.module("base", **TINY_ALBERT)


def test_tiny_albert_takes_weights_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    save_file = pytest.importorskip("safetensors.torch").save_file
    first = GraphedModel(partial(albert.module, "base", **TINY_ALBERT), albert.INPUTS, albert.OUTPUTS, seed=1)
    tokens = np.random.default_rng(0).integers(0, 30000, (1, 384))
    wanted = first.infer(tokens)[0].copy()
    assert wanted.shape == (1, 384, 2)
    (tmp_path / "albert").mkdir()
    state = {key: value.contiguous() for key, value in first._module.net.state_dict().items()}
    save_file(state, tmp_path / "albert" / "base.safetensors")
    monkeypatch.setenv(WEIGHTS_FOLDER, str(tmp_path))
    again = GraphedModel(partial(albert.module, "base", **TINY_ALBERT), albert.INPUTS, albert.OUTPUTS, seed=2)
    assert np.allclose(again.infer(tokens)[0], wanted, atol=1e-5)


def test_weights_that_the_network_shares_are_read_as_it_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")

    def tied(factor: float) -> Any:
        first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        torch.nn.init.constant_(first.weight, factor)
        second.weight = first.weight
        return torch.nn.Sequential(first, second)

    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / "small.safetensors"
    safetensors.save_model(tied(3.0), file)
    monkeypatch.setenv(WEIGHTS_FOLDER, str(tmp_path))
    module = tied(1.0)
    assert initialise(module, "own", "small")
    assert module[1].weight.eq(3.0).all()
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match="the weights are not those of variant `small`"):
        initialise(module, "own", "small")


def test_a_process_with_a_gpu_that_pytorch_cannot_use_does_not_answer_from_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    spec = [TensorSpec("x", "FP32", (1, 3))]
    with pytest.raises(ServingError, match="cannot use the GPU that it was given"):
        GraphedModel(partial(scaled, 2.0), spec, spec)


def test_tiny_detector_finds_boxes() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    outputs = [TensorSpec(s.name, s.datatype, (1, 7, *s.shape[2:])) for s in rtdetr.OUTPUTS]
    model = GraphedModel(partial(rtdetr.module, "r18", 128, **TINY_DETECTOR), rtdetr.INPUTS, outputs)
    picture = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), dtype=np.uint8)
    boxes, scores, labels = model.infer(picture)
    assert boxes.shape == (1, 7, 4)
    assert scores.shape == labels.shape == (1, 7)
    assert np.isfinite(boxes).all()
    assert ((labels >= 0) & (labels < 80)).all()


def test_small_efficientnet_scores_images() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    build = partial(efficientnet.module, "B0", 64)
    model = GraphedModel(build, efficientnet.INPUTS, efficientnet.OUTPUTS)
    images = np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), dtype=np.uint8)
    scores = model.infer(images)[0]
    assert scores.shape == (8, 1000)
    assert np.allclose(scores.sum(1), 1.0, atol=1e-4)


def test_numbers_written_into_a_tensor_are_filled_on_its_device_for_a_capture() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Recorder(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    table = torch.zeros((2, 2), dtype=torch.long)
    with Recorder(), constants_on_device():
        table[1, 0] = 7
    assert table.tolist() == [[0, 0], [7, 0]]
    assert not any("copy" in name for name in seen)


def test_images_are_normalised_colour_by_colour_as_the_weights_expect() -> None:
    torch = pytest.importorskip("torch")
    from clover_rl.applications.gpu.images import prepared

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8))
    spread, mean = (torch.tensor(values).view(3, 1, 1) for values in (efficientnet.SPREAD, efficientnet.MEAN))
    found = prepared(images, 6, torch.float32, scale=1.0 / (255.0 * spread), shift=-mean / spread)
    wanted = (images.permute(0, 3, 1, 2) / 255.0 - mean) / spread
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(prepared(images, 6, torch.float32), images.permute(0, 3, 1, 2) / 255.0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", APPLICATIONS)
def test_variants_on_a_gpu_are_one_graph_and_finite(name: str) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    module = APPLICATIONS[name]
    rng = np.random.default_rng(0)
    for variant in load_application(name).variants:
        model = getattr(module, variant.lower())()
        arrays = [rng.integers(0, 200, spec.shape).astype(spec.datatype.lower()) for spec in model.inputs]
        first = [array.copy() for array in model.infer(*arrays)]
        assert model.graphed
        for found, again in zip(first, model.infer(*arrays), strict=True):
            assert np.isfinite(found).all()
            assert np.allclose(found, again, rtol=1e-2, atol=1e-2)
