"""Train, export and measure the four variants of the digits application (extras `train` and `demo`).

    python examples/train_digits.py --out clover_rl/applications/digits

Writes tiny, small, medium and large as one ONNX file each, and accuracy.json with what was measured on those
very files: test accuracy and CPU time through ONNX Runtime. Takes under a minute on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from sklearn.model_selection import RepeatedStratifiedKFold
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clover_rl.applications.digits import SPLIT_SEED, VARIANT_FILES, load_test_set, load_train_set

TRAINING_SEED = 0
BATCH = 64
INK = 16.0  # the largest pixel value of the data set
LIBRARIES = ("torch", "onnx", "onnxruntime", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Recipe:
    """How one variant is built and trained; compared by cross-validation within the training images."""

    body: Callable[[], nn.Sequential]  # from (n, 1, 8, 8) in 0..1 to ten logits
    epochs: int
    learning_rate: float
    augment: bool = False


class Classifier(nn.Module):
    """The signature all variants share: raw pixels (n, 64) in, ten probabilities (n, 10) out."""

    def __init__(self, body: nn.Sequential) -> None:
        super().__init__()
        self.body = body

    def logits(self, image: Tensor) -> Tensor:
        """Unnormalised scores, what the loss is taken on."""
        scores: Tensor = self.body(image.reshape(-1, 1, 8, 8) / INK)
        return scores

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.logits(image), dim=1)


def perceptron(pool: tuple[int, int], *widths: int) -> nn.Sequential:
    """Fully connected layers on the image averaged over `pool` (rows, columns) pixels."""
    layers: list[nn.Module] = [nn.AvgPool2d(pool), nn.Flatten()]
    width = 64 // (pool[0] * pool[1])
    for hidden in widths:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, 10))


def two_convolutions(channels: int, hidden: int) -> nn.Sequential:
    """A plain convolutional network on the full image."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * channels, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def four_convolutions(channels: int) -> nn.Sequential:
    """Two normalised double convolutions, each followed by pooling."""
    layers: list[nn.Module] = []
    source = 1
    for width in (channels, 2 * channels):
        for _ in range(2):
            layers += [nn.Conv2d(source, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            source = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * source, 10))


RECIPES = {
    "tiny": Recipe(lambda: perceptron((2, 2), 256), epochs=60, learning_rate=0.005),
    "small": Recipe(lambda: perceptron((1, 2), 256, 128), epochs=40, learning_rate=0.003),
    "medium": Recipe(lambda: two_convolutions(32, 64), epochs=30, learning_rate=0.003),
    "large": Recipe(lambda: four_convolutions(48), epochs=60, learning_rate=0.005, augment=True),
}


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate (to 10 degrees), scale (10 %), slant and shift (0.8 pixels) each image of (n, 64) at random."""
    n = len(images)
    angle, scale, slant, right, down = torch.rand(5, n, generator=generator) * 2 - 1
    cos, sin = torch.cos(0.175 * angle), torch.sin(0.175 * angle)
    scale = 1 + 0.1 * scale
    rows = (
        torch.stack([cos * scale, 0.15 * slant - sin, 0.2 * right], dim=1),
        torch.stack([sin, cos * scale, 0.2 * down], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), [n, 1, 8, 8], align_corners=False)
    return F.grid_sample(images.reshape(n, 1, 8, 8), grid, align_corners=False).reshape(n, 64)


def train(recipe: Recipe, images: Tensor, labels: Tensor) -> Classifier:
    """Fit a variant from the fixed seed and return it ready for inference, normalisation folded in."""
    torch.manual_seed(TRAINING_SEED)
    generator = torch.Generator().manual_seed(TRAINING_SEED)
    model = Classifier(recipe.body())
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0.01)
    steps = recipe.epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    smoothing = 0.05 if recipe.augment else 0.0
    for _ in range(recipe.epochs):
        for batch in torch.split(torch.randperm(len(images), generator=generator), BATCH):
            seen = distort(images[batch], generator) if recipe.augment else images[batch]
            loss = F.cross_entropy(model.logits(seen), labels[batch], label_smoothing=smoothing)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return Classifier(_folded(model.eval().body)).eval()


def cross_validate(recipe: Recipe, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean accuracy over three draws of four folds of the training images.

    One draw is not enough: for `large` it ranges from 0.995 to 1.000 by the luck of the folds.
    """
    folds = RepeatedStratifiedKFold(n_splits=4, n_repeats=3, random_state=TRAINING_SEED)
    accuracies = []
    for kept, held in folds.split(images, labels):
        model = train(recipe, torch.from_numpy(images[kept]), torch.from_numpy(labels[kept]))
        with torch.no_grad():
            answers = model(torch.from_numpy(images[held])).argmax(dim=1).numpy()
        accuracies.append(np.mean(answers == labels[held]))
    return float(np.mean(accuracies))


def _folded(body: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in body:
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers.pop()
            assert isinstance(convolution, nn.Conv2d)
            layers.append(fuse_conv_bn_eval(convolution, layer))
        elif not isinstance(layer, nn.Dropout):
            layers.append(layer)
    return nn.Sequential(*layers)


def multiply_accumulates(model: Classifier) -> int:
    """Weights multiplied for one image: kernel size times outputs, over convolutions and linear layers."""
    total = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += layer.weight[0].numel() * output[0].numel()
        elif isinstance(layer, nn.Linear):
            total += layer.weight.numel()

    hooks = [layer.register_forward_hook(count) for layer in model.body]
    with torch.no_grad():
        model(torch.zeros(1, 64))
    for hook in hooks:
        hook.remove()
    return total


def export(model: Classifier, path: Path) -> None:
    """Write a model as one ONNX file: input `image` [-1, 64], output `scores` [-1, 10]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter's own, about its own internals
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 64),),
            dynamo=True,
            external_data=False,
            opset_version=18,
            input_names=["image"],
            output_names=["scores"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            verbose=False,
        )
    assert program is not None  # only a call with a file name returns nothing
    proto = program.model_proto
    graph = proto.graph
    # The exporter notes stack traces with the paths of this machine beside every node: not for publication.
    del proto.metadata_props[:], graph.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*graph.value_info, *graph.input, *graph.output):
        del value.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def measure(path: Path, images: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy over the images and median milliseconds for a single one, of the exported file on one core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"image": images})
    accuracy = int((np.asarray(scores).argmax(axis=1) == labels).sum()) / len(labels)
    one = {"image": images[:1]}
    times = []
    for _ in range(2_000):
        started = time.perf_counter()
        session.run(["scores"], one)
        times.append(time.perf_counter() - started)
    return accuracy, float(np.median(times)) * 1e3


def publish(out: Path) -> None:
    """Train, export and measure the variants into a folder, and write down what was measured there."""
    out.mkdir(parents=True, exist_ok=True)
    train_images, train_labels = load_train_set()
    test_images, test_labels = load_test_set()
    variants: dict[str, dict[str, object]] = {}
    print(f"{'variant':<8} {'accuracy':>8} {'parameters':>10} {'macs':>9} {'cpu_ms':>7} {'trained_s':>9}")
    for name, file in VARIANT_FILES.items():
        started = time.perf_counter()
        model = train(RECIPES[name], torch.from_numpy(train_images), torch.from_numpy(train_labels))
        trained_s = time.perf_counter() - started
        export(model, out / file)
        accuracy, cpu_ms = measure(out / file, test_images, test_labels)
        parameters = sum(weight.numel() for weight in model.parameters())
        macs = multiply_accumulates(model)
        variants[name] = {
            "file": file,
            "sha256": hashlib.sha256((out / file).read_bytes()).hexdigest(),
            "accuracy": accuracy,
            "test_images": len(test_labels),
            "parameters": parameters,
            "macs": macs,
            "cpu_ms": round(cpu_ms, 4),
        }
        print(f"{name:<8} {accuracy:8.4f} {parameters:10,} {macs:9,} {cpu_ms:7.3f} {trained_s:9.1f}")
    record = {
        "dataset": "scikit-learn digits (UCI Optical Recognition of Handwritten Digits, test part)",
        "split": f"stratified by digit: {len(train_labels)} training and {len(test_labels)} test images",
        "test_set_sha256": hashlib.sha256(test_images.tobytes() + test_labels.tobytes()).hexdigest(),
        "seed": {"split": SPLIT_SEED, "training": TRAINING_SEED},
        "variants": variants,
        "provenance": "measured",
        "hardware": "one CPU core; cpu_ms is the median of 2000 single images in ONNX Runtime",
        "versions": {library: version(library) for library in LIBRARIES},
        "command": "python examples/train_digits.py --out clover_rl/applications/digits",
    }
    (out / "accuracy.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Train, export and measure every variant, or only cross-validate the recipes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="folder for the ONNX files and accuracy.json")
    task.add_argument(
        "--cross-validate",
        action="store_true",
        help="score the recipes within the training images; no export",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of additions, and so the weights, depends on the number of threads
    torch.use_deterministic_algorithms(True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which is not needed
    if arguments.cross_validate:
        images, labels = load_train_set()
        for name, recipe in RECIPES.items():
            print(f"{name:<8} {cross_validate(recipe, images, labels):.4f}", flush=True)
    else:
        publish(arguments.out)


if __name__ == "__main__":
    main()
