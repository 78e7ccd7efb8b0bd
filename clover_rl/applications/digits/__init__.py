"""The demo application: handwritten digits, four variants in ONNX and the images they were scored on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clover_rl.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SPLIT_SEED", "TEST_IMAGES", "VARIANT_FILES", "folder", "load_test_set", "load_train_set"]

VARIANT_FILES: dict[str, str] = {
    "tiny": "tiny.onnx",
    "small": "small.onnx",
    "medium": "medium.onnx",
    "large": "large.onnx",
}
"""Variant name to its file in `folder()`, from the cheapest to the most accurate."""

SPLIT_SEED = 0
TEST_IMAGES = 719  # 40 % of the 1 797: one image more or less moves an accuracy by 0.0014


def folder() -> Path:
    """The folder that holds the ONNX files and `accuracy.json`."""
    return Path(__file__).resolve().parent


def load_train_set() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The 1 078 images that the variants were trained on; see `load_test_set` for the layout.

    Raises:
        MissingExtraError: scikit-learn, which carries the images, is not installed.
    """
    return _split()[0]


def load_test_set() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The 719 held-out images: a fixed split, stratified by digit, that no training run has seen.

    Returns:
        Images, float32 of shape (n, 64): 8x8 pixels in row-major order, 0 (paper) to 16 (ink), just as the
        variants take them; and labels, int64 of shape (n,), 0 to 9.

    Raises:
        MissingExtraError: scikit-learn, which carries the images, is not installed.
    """
    return _split()[1]


def _split() -> tuple[
    tuple[NDArray[np.float32], NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.int64]]
]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MissingExtraError(
            "the digits images come with scikit-learn, which is not installed",
            where="application digits",
            fix="install it with: pip install 'clover-rl[demo]'",
        ) from error
    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images.astype("float32"),
        labels.astype("int64"),
        test_size=TEST_IMAGES,
        stratify=labels,
        random_state=SPLIT_SEED,
    )
    return (train_images, train_labels), (test_images, test_labels)
