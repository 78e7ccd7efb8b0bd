"""Bundle: an exported policy, one `.clover` file: a zip of policy.onnx, manifest.json and parity.npz."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.cluster.choices import Catalogue
from clover_rl.cluster.profile import Profile
from clover_rl.control.codecs import ActionCodec, ObservationCodec
from clover_rl.errors import BundleError, CloverError, MissingExtraError
from clover_rl.simulation.model import ClusterModel

__all__ = ["ALLOWED_OPERATORS", "FORMAT", "Bundle", "Parity", "PolicyNetwork", "open_bundle", "pack_bundle"]

FORMAT = 1
"""Version of the file format; another one is refused."""

MEMBERS = ("policy.onnx", "parity.npz")
MANIFEST = "manifest.json"
MAX_BYTES = 64 * 2**20

ALLOWED_OPERATORS = frozenset(
    {
        "Add", "Cast", "Clip", "Concat", "Constant", "Div", "Gemm", "Identity", "MatMul", "Mul", "Relu",
        "Reshape", "Shape", "Slice", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators that a policy may use: arithmetic of a small network, nothing that loops, calls out or loads."""

TOLERANCE = 1e-4
"""Largest difference of logits, relative to their spread, between export and replay."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Recorded vectors that a policy must reproduce.

    Attributes:
        observations: shape (n, size), float32.
        masks: allowed actions, shape (n, actions).
        logits: of the policy that was trained, masked ones very low, shape (n, actions), float32.
        actions: that it chose, shape (n,).
    """

    observations: NDArray[np.float32]
    masks: NDArray[np.bool_]
    logits: NDArray[np.float32]
    actions: NDArray[np.int64]

    def margins(self) -> NDArray[np.float32]:
        """Difference between the highest and the second highest logit, shape (n,)."""
        top = np.sort(self.logits, axis=-1)
        if top.shape[-1] < 2:
            return np.full(len(top), np.inf, np.float32)
        return np.asarray(top[:, -1] - top[:, -2], np.float32)

    def tolerance(self) -> float:
        """Largest difference of allowed logits that counts as the same."""
        allowed = self.logits[self.masks]
        return float(TOLERANCE * max(1.0, float(np.abs(allowed).max(initial=0.0))))


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay found: vectors, near ties (not compared by action), and the largest difference."""

    vectors: int
    near_ties: int
    largest_difference: float


class PolicyNetwork:
    """policy.onnx in ONNX Runtime on one thread: observation and mask in, logits out.

    Raises:
        BundleError: the network uses an operator that is not allowed, or cannot be loaded.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, content: bytes) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError(
                "onnxruntime is needed to run a policy", fix="install clover-rl[serve]"
            ) from None
        check_operators(content)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes share no public base
            raise BundleError(
                f"policy.onnx cannot be loaded ({type(error).__name__})", fix="export it again"
            ) from None

    def logits(self, observations: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Logits of n observations, masked actions very low, shape (n, actions)."""
        (out,) = self._session.run(None, {"observation": observations, "mask": masks})
        return np.asarray(out, np.float32)


def check_operators(content: bytes) -> None:
    """Refuse networks with operators outside ALLOWED_OPERATORS, other domains, functions or external data.

    Raises:
        BundleError: naming the first one.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx is needed to check a policy", fix="install clover-rl[serve]") from None
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's own classes
        raise BundleError("policy.onnx is no ONNX file", fix="export it again") from None
    if model.functions or any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise BundleError("policy.onnx uses functions or external data", fix="export it again")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in ALLOWED_OPERATORS:
            raise BundleError(
                f"policy.onnx uses the operator `{node.domain or 'ai.onnx'}.{node.op_type}`, "
                "which is not allowed",
                fix="export a policy made of plain layers",
            )


@dataclass(frozen=True)
class Bundle:
    """A policy with all that is needed to run and to check it.

    Attributes:
        manifest: format, application, GPU model, observation fields, catalogue, hashes, records.
        network: bytes of policy.onnx.
        parity: recorded vectors.
        sha256: of the whole file.
    """

    manifest: Mapping[str, Any]
    network: bytes
    parity: Parity
    sha256: str

    @property
    def name(self) -> str:
        """Name given at export."""
        return str(self.manifest["name"])

    @property
    def observation_codec(self) -> ObservationCodec:
        """How to encode states for this policy."""
        return ObservationCodec.from_dict(self.manifest["observation"])

    def catalogue(self, profile: Profile) -> Catalogue:
        """The catalogue that the policy chooses from."""
        return Catalogue.parse(self.manifest["actions"]["catalogue"], profile)

    def replay(self) -> ReplayResult:
        """Run the recorded vectors.

        Raises:
            BundleError: a logit differs by more than the tolerance, or an action differs whose margin is
                above it.
        """
        parity = self.parity
        found = PolicyNetwork(self.network).logits(parity.observations, parity.masks)
        tolerance = parity.tolerance()
        difference = float(np.abs(np.where(parity.masks, found - parity.logits, 0.0)).max(initial=0.0))
        if found.shape != parity.logits.shape or not difference <= tolerance:
            raise BundleError(
                f"the policy's logits differ from the recorded ones by {difference:.3g} "
                f"(tolerance {tolerance:.3g})",
                fix="export it again with the libraries that run it",
            )
        clear = parity.margins() > tolerance
        wrong = (found.argmax(axis=-1) != parity.actions) & clear
        if wrong.any():
            raise BundleError(
                f"the policy chooses another action than recorded in {int(wrong.sum())} vectors",
                fix="export it again",
            )
        return ReplayResult(len(clear), int((~clear).sum()), difference)

    def check(self, model: ClusterModel) -> list[str]:
        """Refuse another catalogue; warn of another profile.

        Returns:
            Warnings, one sentence each.

        Raises:
            BundleError: made for another application, GPU model, number of GPUs or catalogue.
        """
        profile = model.profile
        facts = (
            ("application", self.manifest["application"], profile.application.name),
            ("GPU model", self.manifest["gpu"], profile.gpu.name),
            ("number of GPUs", self.manifest["gpus"], model.gpus),
        )
        for noun, mine, theirs in facts:
            if mine != theirs:
                raise BundleError(
                    f"the bundle is for the {noun} {mine}, the cluster's is {theirs}",
                    fix="train and export a policy for this cluster",
                )
        if self.manifest["actions"]["catalogue_hash"] != ActionCodec(model.catalogue).catalogue_hash:
            raise BundleError(
                "the bundle chooses from another action catalogue than the cluster's",
                fix="export it again for this scenario",
            )
        warnings = []
        if self.manifest["profile_hash"] != profile.hash:
            warnings.append(
                f"the bundle was trained on another profile than `{profile.name}` as it is now: "
                "its choices may be off"
            )
        return warnings


def pack_bundle(path: Path, manifest: Mapping[str, Any], network: bytes, parity: Parity) -> Bundle:
    """Write a bundle, replay it, and only then put it at its place.

    Raises:
        BundleError: the replay failed; nothing is written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        observations=parity.observations,
        masks=parity.masks,
        logits=parity.logits,
        actions=parity.actions,
    )
    members = {"policy.onnx": network, "parity.npz": buffer.getvalue()}
    complete = dict(manifest) | {
        "format": FORMAT,
        "members": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, json.dumps(complete, indent=1))
        for name, content in members.items():
            archive.writestr(name, content)
    try:
        bundle = open_bundle(partial)
        bundle.replay()
    except CloverError:
        partial.unlink()
        raise
    partial.replace(path)
    return bundle


_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError),
    *(KeyError, ValueError, TypeError, IndexError),
)
"""What zipfile, json and numpy raise at content that is not what it should be."""


def open_bundle(source: Path | bytes) -> Bundle:
    """Read a bundle and check its form and its hashes; nothing in it is executed.

    Raises:
        BundleError: not a bundle, damaged, too large, or of another format.
    """
    where = str(source) if isinstance(source, Path) else None
    try:
        content = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise BundleError(f"cannot be read ({error.strerror})", where=where, fix="check the path") from None
    try:
        return _opened(content)
    except BundleError as error:
        raise BundleError(error.what, where=where, fix=error.fix) from None
    except _DAMAGE:
        raise BundleError(
            "is damaged or no bundle", where=where, fix="export the policy again or copy the file again"
        ) from None


def _opened(content: bytes) -> Bundle:
    if len(content) > MAX_BYTES:
        raise BundleError(f"has more than {MAX_BYTES >> 20} MiB", fix="a bundle is a small file; check it")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if sorted(names) != sorted((MANIFEST, *MEMBERS)):
            raise BundleError(
                "does not hold exactly a manifest, a policy and parity vectors", fix="export again"
            )
        if sum(info.file_size for info in archive.infolist()) > 4 * MAX_BYTES:
            raise BundleError("unpacks to too much", fix="a bundle is a small file; check it")
        manifest = json.loads(archive.read(MANIFEST))
        members = {name: archive.read(name) for name in MEMBERS}
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"has format {manifest.get('format')}, this version reads {FORMAT}", fix="export it again"
        )
    for name, member in members.items():
        if hashlib.sha256(member).hexdigest() != manifest["members"][name]:
            raise BundleError(f"{name} is not what the manifest says", fix="copy or export the file again")
    with np.load(io.BytesIO(members["parity.npz"]), allow_pickle=False) as arrays:
        parity = Parity(
            arrays["observations"].astype(np.float32),
            arrays["masks"].astype(np.bool_),
            arrays["logits"].astype(np.float32),
            arrays["actions"].astype(np.int64),
        )
    for key in ("name", "application", "gpu", "gpus", "observation", "actions", "profile_hash"):
        manifest[key]
    return Bundle(manifest, members["policy.onnx"], parity, hashlib.sha256(content).hexdigest())
