"""Generates the committed stubs: `python -m clover_rl.serving.protocol.generate [DIRECTORY]`."""

from __future__ import annotations

import importlib
import importlib.resources
import sys
from pathlib import Path

from clover_rl.errors import MissingExtraError, ServingError

__all__ = ["generate"]

_PACKAGE = Path(__file__).resolve().parent
_ROOT = _PACKAGE.parents[2]
_POOL_IMPORT = "from google.protobuf import descriptor_pool as _descriptor_pool\n"
_OUR_POOL_IMPORT = "from clover_rl.serving.protocol.pool import POOL as _POOL\n"


def generate(target: Path = _ROOT) -> list[Path]:
    """Write `*_pb2.py`, `*_pb2.pyi` and `*_pb2_grpc.py` of every .proto file of this package.

    The messages are moved from protobuf's default descriptor pool into our own; see `pool.py`.

    Args:
        target: directory that `clover_rl/serving/protocol/` is written under.

    Returns:
        The files written.

    Raises:
        MissingExtraError: grpcio-tools is not installed.
        ServingError: the compiler refused a file, or wrote one that does not look as expected.
    """
    try:
        protoc = importlib.import_module("grpc_tools.protoc")
    except ImportError as error:
        raise MissingExtraError("grpcio-tools is not installed", fix="install the extra `dev`") from error
    bundled = importlib.resources.files("grpc_tools") / "_proto"
    written: list[Path] = []
    for proto in sorted(_PACKAGE.glob("*.proto")):
        relative = proto.relative_to(_ROOT)
        outs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main(["protoc", f"-I{_ROOT}", f"-I{bundled}", *outs, str(relative)]):
            raise ServingError("the protocol compiler refused the file", where=str(relative))
        stem = target / relative.with_suffix("")
        messages = stem.with_name(f"{stem.name}_pb2.py")
        messages.write_text(_use_our_pool(messages.read_text(), str(relative)))
        others = [messages.with_suffix(".pyi"), stem.with_name(f"{stem.name}_pb2_grpc.py")]
        for other in others:
            other.write_text(f"# mypy: ignore-errors\n{other.read_text()}")
        written += [messages, *others]
    return written


def _use_our_pool(source: str, where: str) -> str:
    if source.count(_POOL_IMPORT) != 1 or source.count("_descriptor_pool.Default()") != 1:
        raise ServingError("the generated module registers its messages in an unexpected way", where=where)
    return source.replace(_POOL_IMPORT, _OUR_POOL_IMPORT).replace("_descriptor_pool.Default()", "_POOL")


if __name__ == "__main__":
    generate(*(Path(argument) for argument in sys.argv[1:2]))
