"""Bundle: an exported policy, one `.clover` file: a zip of policy.onnx, manifest.json and parity.npz."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clover_rl.agents.manifest import Manifest
from clover_rl.agents.network import PolicyNetwork
from clover_rl.cluster.choices import Catalogue
from clover_rl.cluster.profile import Profile
from clover_rl.control.codecs import ActionCodec, ObservationCodec, texts_hash
from clover_rl.errors import BundleError, CloverError, InputError
from clover_rl.simulation.model import ClusterModel
from clover_rl.yamlfile import validate_model

__all__ = ["FORMAT", "Bundle", "Parity", "open_bundle", "pack_bundle"]

FORMAT = 1
"""Version of the file format; another one is refused."""

MEMBERS = ("policy.onnx", "parity.npz")
MANIFEST = "manifest.json"
MAX_BYTES = 64 * 2**20

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

    def require(self, size: int, actions: int) -> None:
        """Refuse vectors that prove nothing.

        Raises:
            BundleError: none, or not of this observation size and number of actions, or not numbers, or an
                action that its mask forbids.
        """
        n = len(self.actions)
        wanted = (((n, size), "f4"), ((n, actions), "?"), ((n, actions), "f4"), ((n,), "i8"))
        found: tuple[NDArray[Any], ...] = (self.observations, self.masks, self.logits, self.actions)
        fit = all(
            a.shape == shape and a.dtype == kind for a, (shape, kind) in zip(found, wanted, strict=True)
        )
        finite = fit and bool(np.isfinite(self.observations).all() and np.isfinite(self.logits).all())
        inside = finite and n > 0 and bool(((self.actions >= 0) & (self.actions < actions)).all())
        if not inside or not self.masks[np.arange(n), self.actions].all():
            raise BundleError(
                "the parity vectors do not fit the manifest's observations and actions", fix="export it again"
            )

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
        if not difference <= tolerance:
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
        if _sees(self.observation_codec) != _sees(
            ObservationCodec.of(model, reference_g_per_kwh=1.0, interval_s=1.0)
        ):
            raise BundleError(
                "the bundle observes other quantities than this version and cluster have",
                fix="export it again",
            )
        warnings = []
        if self.manifest["profile_hash"] != profile.hash:
            warnings.append(
                f"the bundle was trained on another profile than `{profile.name}` as it is now: "
                "its choices may be off"
            )
        return warnings


def _sees(codec: ObservationCodec) -> tuple[object, ...]:
    """What the numbers of an observation stand for; how they are scaled is the policy's own affair."""
    return codec.slots, codec.gpus, [(field.name, field.size) for field in codec.fields]


def _packed(members: Mapping[str, bytes]) -> bytes:
    """The one way in which a bundle's members are stored.

    No times, no compression: the same members give the same bytes, and any other byte is damage.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in (MANIFEST, *MEMBERS):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def pack_bundle(path: Path, manifest: Mapping[str, Any], network: bytes, parity: Parity) -> Bundle:
    """Pack a bundle, replay it, and only then write it.

    Raises:
        BundleError: the replay failed; nothing is written.
        InputError: it cannot be written there.
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
    content = _packed(members | {MANIFEST: json.dumps(complete, indent=1).encode()})
    bundle = open_bundle(content)
    bundle.replay()
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"cannot be written ({error.strerror})", where=str(path), fix="name a file in an existing folder"
        ) from None
    return bundle


_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, MemoryError),
    *(KeyError, ValueError, TypeError, IndexError, struct.error),
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
    except CloverError as error:
        inner = f"{error.where}: {error.what}" if error.where else error.what
        raise BundleError(inner, where=where, fix=error.fix) from None
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
        _require_small(archive)
        members = {name: archive.read(name) for name in names}
    manifest = _manifest(members[MANIFEST])
    for name in MEMBERS:
        if hashlib.sha256(members[name]).hexdigest() != manifest["members"].get(name):
            raise BundleError(f"{name} is not what the manifest says", fix="copy or export the file again")
    if _packed(members) != content:
        raise BundleError("has bytes that export did not write", fix="copy or export the file again")
    parity = _parity(members["parity.npz"])
    bundle = Bundle(manifest, members["policy.onnx"], parity, hashlib.sha256(content).hexdigest())
    parity.require(bundle.observation_codec.size, len(manifest["actions"]["catalogue"]))
    return bundle


def _require_small(archive: zipfile.ZipFile) -> None:
    if sum(info.file_size for info in archive.infolist()) > 4 * MAX_BYTES:
        raise BundleError("unpacks to too much", fix="a bundle is a small file; check it")


def _manifest(content: bytes) -> dict[str, Any]:
    manifest = json.loads(content)
    if not isinstance(manifest, dict):
        raise BundleError("is no mapping of keys", where=MANIFEST, fix="export it again")
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"has format {manifest.get('format')}, this version reads {FORMAT}", fix="export it again"
        )
    validate_model(manifest, Manifest, where=MANIFEST)
    actions = manifest["actions"]
    if texts_hash(actions["catalogue"]) != actions["catalogue_hash"]:
        raise BundleError("the action catalogue is not what its hash says", fix="export it again")
    return manifest


def _parity(content: bytes) -> Parity:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        _require_small(archive)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Parity(arrays["observations"], arrays["masks"], arrays["logits"], arrays["actions"])
