"""Asks a running server who it is, then has it recognise a handwritten digit, as any client can.

clover-rl serve demo &
python examples/triton_client.py --url 127.0.0.1:8001
"""

from __future__ import annotations

import argparse

import tritonclient.grpc as triton

from clover_rl.applications.digits import load_test_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="127.0.0.1:8001", help="inference port, HOST:PORT")
    parser.add_argument("--index", type=int, default=0, help="which digit of the test set")
    arguments = parser.parse_args()
    images, labels = load_test_set()
    client = triton.InferenceServerClient(arguments.url)
    print("live", client.is_server_live(), "ready", client.is_server_ready())
    print("server", client.get_server_metadata(as_json=True)["name"])
    print("inputs", client.get_model_metadata("digits", as_json=True)["inputs"])
    print("platform", client.get_model_config("digits", as_json=True)["config"].get("platform"))

    image = triton.InferInput("image", [1, 64], "FP32")
    image.set_data_from_numpy(images[arguments.index : arguments.index + 1])
    answer = client.infer("digits", [image])
    parameters = answer.get_response().parameters
    print("label", labels[arguments.index], "answer", answer.as_numpy("scores")[0].argmax())
    print("variant", parameters["variant"].string_param, "on", parameters["instance"].string_param)
    print("about", parameters["gco2_estimate"].double_param, "gCO2,", parameters["gco2_kind"].string_param)

    counts = client.get_inference_statistics("digits", as_json=True)["model_stats"][0]
    print("answered so far", counts["inference_count"])
    client.close()


if __name__ == "__main__":
    main()
