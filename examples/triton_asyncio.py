"""Recognises a few handwritten digits at once with tritonclient's asyncio client, then on one stream.

clover-rl serve demo &
python examples/triton_asyncio.py --url 127.0.0.1:8001
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from clover_rl.applications.digits import load_test_set


def image(array: np.ndarray[Any, np.dtype[np.float32]]) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", [1, 64], "FP32")
    tensor.set_data_from_numpy(array.reshape(1, 64))
    return [tensor]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="127.0.0.1:8001", help="inference port, HOST:PORT")
    parser.add_argument("--count", type=int, default=8, help="how many digits")
    arguments = parser.parse_args()
    images, labels = load_test_set()
    chosen = range(arguments.count)
    client = triton_aio.InferenceServerClient(arguments.url)
    answers = await asyncio.gather(*(client.infer("digits", image(images[index])) for index in chosen))
    right = sum(int(answers[index].as_numpy("scores")[0].argmax() == labels[index]) for index in chosen)
    print(f"{right} of {len(answers)} digits recognised")

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for index in chosen:
            yield {"model_name": "digits", "inputs": image(images[index]), "request_id": str(index)}

    streamed = 0
    async for answer, error in client.stream_infer(requests()):
        if error is not None:
            raise error
        streamed += answer.get_response().id == str(streamed)
    print(f"{streamed} answers on one stream, in order")
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
