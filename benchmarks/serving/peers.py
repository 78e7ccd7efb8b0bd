"""Peers in environments of their own: MLServer and KServe, each with the same model.

`python -m benchmarks.serving.peers DIRECTORY` makes DIRECTORY/mlserver and DIRECTORY/kserve; the benchmark
uses what it finds there (CLOVER_RL_PEERS, `.peers` when unset) and leaves out what is not installed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import grpc

from benchmarks.serving.model import METHOD, request

__all__ = ["installed", "start_peer"]

PACKAGES = {"mlserver": ["mlserver==1.7.1", "onnxruntime"], "kserve": ["kserve==0.21.0", "onnxruntime"]}

_SESSION = """
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
"""
_MLSERVER = (
    _SESSION
    + """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
class Runtime(MLModel):
    async def load(self):
        return True
    async def predict(self, payload):
        image = NumpyCodec.decode_input(payload.inputs[0])
        (scores,) = session.run(None, {{"image": image}})
        return InferenceResponse(
            id=payload.id, model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)]
        )
"""
)
_KSERVE = (
    _SESSION
    + """
from kserve import InferOutput, InferResponse, Model, ModelServer
class Runtime(Model):
    def load(self):
        self.ready = True
    async def predict(self, payload, headers=None, response_headers=None):
        image = payload.inputs[0].as_numpy()
        (scores,) = session.run(None, {{"image": image}})
        output = InferOutput("scores", list(scores.shape), "FP32")
        output.set_data_from_numpy(scores, binary_data=True)
        return InferResponse(payload.id, self.name, [output])
if __name__ == "__main__":
    model = Runtime("mlp")
    model.load()
    ModelServer(http_port={http}, grpc_port={grpc}, workers=1, enable_docs_url=False).start([model])
"""
)


def _folder() -> Path:
    return Path(os.environ.get("CLOVER_RL_PEERS", ".peers"))


def installed() -> list[str]:
    """The peers that can be started."""
    return [name for name in PACKAGES if (_folder() / name / "bin" / "python").exists()]


def start_peer(name: str, model: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a peer with the model and wait until it answers; its process and its gRPC port."""
    folder = Path(tempfile.mkdtemp(prefix=f"clover-bench-{name}-"))
    http, port, metrics = (_free_port() for _ in range(3))
    bin_folder = (_folder() / name / "bin").absolute()
    if name == "mlserver":
        (folder / "runtime.py").write_text(_MLSERVER.format(path=str(model)))
        (folder / "model-settings.json").write_text('{"name": "mlp", "implementation": "runtime.Runtime"}')
        (folder / "settings.json").write_text(
            f'{{"parallel_workers": 0, "http_port": {http}, "grpc_port": {port}, "metrics_port": {metrics}}}'
        )
        command = [str(bin_folder / "mlserver"), "start", str(folder)]
    else:
        (folder / "runtime.py").write_text(_KSERVE.format(path=str(model), http=http, grpc=port))
        command = [str(bin_folder / "python"), "runtime.py"]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    log.close()
    deadline = time.monotonic() + 60.0
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        while True:
            try:
                channel.unary_unary(METHOD)(request(), timeout=2.0)
                return process, port
            except grpc.RpcError as error:
                if time.monotonic() > deadline or process.poll() is not None:
                    process.kill()
                    said = (folder / "log").read_text()[-2000:]
                    raise RuntimeError(f"{name} does not answer: {error.details()}\n{said}") from error
                time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    for peer, packages in PACKAGES.items():
        target = Path(sys.argv[1]) / peer
        venv.create(target, with_pip=True)
        subprocess.run([target / "bin" / "python", "-m", "pip", "install", "--quiet", *packages], check=True)
