"""Messages: what is sent is what is read, and what breaks the contract is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from clover_rl.cluster.application import TensorSpec
from clover_rl.serving.worker import messages
from clover_rl.serving.worker.definition import ModelDefinition, ModelKind
from clover_rl.serving.worker.messages import Infer, MessageError, Result, Tensor


def test_every_message_survives_its_frame() -> None:
    spec = TensorSpec("x", "FP32", (-1, 2))
    sent = [
        messages.Hello(ModelDefinition.onnx(Path("model.onnx")), (spec,), (), 2, 1),
        messages.Hello(ModelDefinition(ModelKind.PYTHON, None, "name")),
        messages.Ready(7, (spec,), (spec, spec), 0.5, 0.001),
        messages.Failure(3, True, "no"),
        messages.Ping(5),
        messages.Pong(5),
        messages.Stop(),
    ]
    assert [messages.decode(b"".join(map(bytes, message.frames()))) for message in sent] == sent
    result = messages.decode(b"".join(map(bytes, Result(1, 2, 3, 4, [Tensor((2,), b"ab")]).frames())))
    assert isinstance(result, Result)
    assert bytes(result.tensors[0].data) == b"ab"


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\0\0\x63\0\0\0",
        b"\x01\0\0\0\x06\0\0\0x",
        b"".join(map(bytes, Infer(1, 0, 0, [Tensor((2,), b"ab")]).frames()))[:-1],
        b"".join(map(bytes, Infer(1, 0, 0, [Tensor((2,), b"ab")]).frames())) + b"x",
    ],
    ids=["unknown kind", "short body", "cut tensor", "too long"],
)
def test_frames_that_break_the_contract_are_refused(frame: bytes) -> None:
    with pytest.raises(MessageError):
        messages.decode(frame)
    with pytest.raises(MessageError, match="announced"):
        messages.frame_size(b"\xff" * 8)
