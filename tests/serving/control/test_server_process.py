"""The server as a whole, started from the command line, with real clients and real signals."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from sb3_contrib import MaskablePPO
from tritonclient.utils import InferenceServerException

from clover_rl.agents.train.export import export_model
from clover_rl.envs.scalar import MIGClusterEnv
from clover_rl.serving.clients.control_client import ControlClient
from clover_rl.serving.clients.load_client import LoadRun
from clover_rl.serving.clients.samples import Samples
from tests.cli.process import run_cli
from tests.serving.server_process import ServerProcess, free_port, gone

REPOSITORY = Path(__file__).resolve().parents[3]

SCENARIO = """
name: tiny-demo
title: one emulated GPU, a step a second
profile: emulated-digits
gpus: 1
interval_s: 1.0
time_scale: 3600.0
timeout_s: 5.0
embodied: {lifetime_years: 5}
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "tiny-demo.yaml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture(scope="module")
def bundle(scenario: Path) -> Path:
    """A policy that was never trained: it decides, which is all that is needed here."""
    model = MaskablePPO("MlpPolicy", MIGClusterEnv(scenario), n_steps=16, batch_size=16, seed=1, device="cpu")
    path = scenario.with_name("tiny.clover")
    export_model(model, scenario, path)
    return path


@pytest.fixture(scope="module")
def server(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(scenario, tmp_path_factory.mktemp("server") / "state", "--controller=base")
    yield process
    process.end()


def send(address: str, seconds: float, rate: float = 20.0) -> LoadRun:
    return LoadRun(address, "digits", Samples.of_digits(), lambda _: rate, timeout_s=5.0)


def test_the_example_client_infers_and_the_metadata_calls_answer(server: ServerProcess) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "triton_client.py"), "--url", server.address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "live True ready True" in done.stdout
    assert "variant large on gpu0/7g@0:large" in done.stdout


def test_the_asyncio_example_infers_at_once_and_on_a_stream(server: ServerProcess) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "triton_asyncio.py"), "--url", server.address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "8 of 8 digits recognised" in done.stdout
    assert "8 answers on one stream, in order" in done.stdout


def test_deploying_and_rolling_back_while_requests_flow_loses_nothing(
    server: ServerProcess, bundle: Path
) -> None:
    run = send(server.address, 6.0)
    report: list[object] = []
    sender = threading.Thread(target=lambda: report.append(asyncio.run(run.run(6.0))))
    sender.start()
    time.sleep(1.0)
    deployed = run_cli("deploy", str(bundle), "--to", server.control, "--json")
    time.sleep(2.5)
    status = json.loads(run_cli("status", "--to", server.control, "--json").stdout)
    back = run_cli("rollback", "--to", server.control)
    sender.join()
    assert json.loads(deployed.stdout)["controller"] == "policy"
    assert status["controller"] == "policy"
    assert status["bundle_name"] == "tiny"
    assert back.returncode == 0
    assert "base is in charge" in back.stdout
    assert run.report.sent > 60
    assert run.report.failed == 0
    assert run.report.answered == run.report.sent


def test_the_commands_for_people_and_for_programs_agree_with_the_server(
    server: ServerProcess, tmp_path: Path
) -> None:
    answer = json.loads(run_cli("infer", "--to", server.address, "--json").stdout)
    assert answer["label"] == answer["answer"]
    assert answer["gco2_estimate"] > 0
    assert answer["gco2_kind"] == "modelled"
    load = run_cli("load", "--to", server.address, "--rate", "20", "--seconds", "1.5", "--json")
    assert load.returncode == 0
    assert json.loads(load.stdout)["failed"] == 0
    trace = tmp_path / "arrivals.csv"
    trace.write_text("offset_s\n" + "".join(f"{number / 20}\n" for number in range(100)))
    load = run_cli("load", "--to", server.address, f"--trace={trace}", "--start=2", "--seconds=1", "--json")
    report = json.loads(load.stdout)
    assert (report["sent"], report["answered"]) == (20, 20)
    assert report["accuracy"] > 0.8
    assert report["p50_ms"] <= report["p99_ms"]
    shown = run_cli("status", "--to", server.control).stdout
    assert "in charge" in shown
    with ControlClient(server.control) as client:
        assert client.status().intensity_kind == "average life-cycle"
        rows = client.intervals()
    counted = [row for row in rows if row.HasField("sci_g_per_request")]
    assert counted
    assert all(row.scored and row.answered for row in counted)
    for row in counted:
        share_g = 164_000.0 * row.duration_s / (5.0 * 365.25 * 86_400.0)  # one H100, five years
        assert row.embodied_g_per_request * row.answered == pytest.approx(share_g)
        operational = row.carbon_g / row.answered
        assert row.sci_g_per_request == pytest.approx(operational + row.embodied_g_per_request)


def test_a_damaged_bundle_or_an_unknown_controller_changes_nothing(
    server: ServerProcess, bundle: Path, tmp_path: Path
) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.clover"
    damaged.write_bytes(content)
    with ControlClient(server.control) as client:
        before = client.status().controller
        with pytest.raises(Exception, match=r"damaged|not what the manifest says"):
            client.deploy(bytes(content))
        with pytest.raises(Exception, match="unknown controller `nobody`"):
            client.activate("nobody")
        assert client.status().controller == before
    refused = run_cli("deploy", str(damaged), "--to", server.control)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("which", ["port", "control-port", "metrics-port"])
def test_a_port_in_use_is_one_sentence(
    server: ServerProcess, scenario: Path, tmp_path: Path, which: str
) -> None:
    ports = {name: free_port() for name in ("port", "control-port", "metrics-port")}
    ports[which] = server.port
    options = [f"--{name}={port}" for name, port in ports.items()]
    done = run_cli("serve", str(scenario), "--state", str(tmp_path / "state"), "--controller=base", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "in use" in done.stderr.splitlines()[-1]


def test_no_server_there_is_one_sentence() -> None:
    for arguments in (("status",), ("rollback",), ("deploy", "base")):
        done = run_cli(*arguments, "--to", f"127.0.0.1:{free_port()}")
        assert done.returncode == 2
        assert "no server answers there" in done.stderr


def test_wrong_requests_get_a_status_and_the_server_stays_up(server: ServerProcess) -> None:
    client = triton.InferenceServerClient(server.address)

    def refused(model: str, name: str, array: np.ndarray, datatype: str) -> str:  # type: ignore[type-arg]
        tensor = triton.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, [tensor])
        return str(caught.value.status())

    right = np.zeros((1, 64), np.float32)
    found = Counter(
        [
            refused("nothing", "image", right, "FP32"),
            refused("digits", "image", np.zeros((1, 63), np.float32), "FP32"),
            refused("digits", "image", np.zeros((1, 64), np.float64), "FP64"),
            refused("digits", "picture", right, "FP32"),
            refused("digits", "image", np.zeros((1, 17 << 20), np.float32), "FP32"),
        ]
    )
    assert found == {
        "StatusCode.NOT_FOUND": 1,
        "StatusCode.INVALID_ARGUMENT": 3,
        "StatusCode.RESOURCE_EXHAUSTED": 1,
    }
    assert client.is_server_ready()
    client.close()


def test_load_sends_what_a_file_holds_and_measures_accuracy_only_against_its_labels(
    server: ServerProcess, tmp_path: Path
) -> None:
    samples = Samples.of_digits()
    images = samples.inputs["image"][:, 0]
    wrong = (samples.labels + 1) % 10 if samples.labels is not None else None
    files = {"right": {"labels": samples.labels}, "wrong": {"labels": wrong}, "none": {}}
    found = {}
    for name, more in files.items():
        np.savez(tmp_path / f"{name}.npz", image=images, **more)
        sent = ("--rate=20", "--seconds=1.5", f"--data={tmp_path / name}.npz", "--json")
        found[name] = json.loads(run_cli("load", "--to", server.address, *sent).stdout)
    assert found["right"]["accuracy"] > 0.9
    assert found["wrong"]["accuracy"] < 0.1
    assert found["none"]["accuracy"] is None
    assert min(report["answered"] for report in found.values()) > 10


def test_load_refuses_a_model_that_is_not_served_in_one_sentence(server: ServerProcess) -> None:
    refused = run_cli("load", "--to", server.address, "--model=letters", "--seconds=1")
    assert refused.returncode == 2
    assert "letters" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sigterm_under_load_answers_what_was_accepted_and_refuses_the_rest(
    scenario: Path, tmp_path: Path
) -> None:
    server = ServerProcess(scenario, tmp_path / "state", "--controller=base")
    workers = server.workers()
    run = send(server.address, 4.0, rate=28.0)  # close to what one large instance can do: a queue stands
    sender = threading.Thread(target=lambda: asyncio.run(run.run(4.0)))
    sender.start()
    time.sleep(2.0)
    exit_status = server.terminate()
    sender.join()
    report = run.report
    assert exit_status == 0, server.log.read_text()
    assert report.answered > 20
    assert report.sent == report.answered + report.failed
    # gRPC itself cancels a call that meets the closing port, before any code of ours sees it
    assert set(report.errors) <= {"StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}, report.errors
    assert report.errors["StatusCode.CANCELLED"] <= 2
    assert gone(workers)
    with sqlite3.connect(tmp_path / "state" / "ledger.sqlite") as ledger:
        (answered,) = ledger.execute("SELECT SUM(answered) FROM intervals").fetchone()
    ledger.close()
    assert answered == report.answered  # to the last one, the drain included


def test_a_second_sigterm_ends_a_drain_that_cannot_end(scenario: Path, tmp_path: Path) -> None:
    server = ServerProcess(scenario, tmp_path / "state", "--controller=base", "--grace-s=60")
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # what it has is not answered any more
    run = send(server.address, 1.0)
    sender = threading.Thread(target=lambda: asyncio.run(run.run(1.0)))
    sender.start()
    deadline = time.monotonic() + 10.0
    while run.report.sent < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert server.process.poll() is None, "it waits for what it accepted"
    assert server.terminate(timeout=20.0) == 1, server.log.read_text()
    sender.join()
    assert run.report.sent == run.report.answered + run.report.failed
    assert gone(workers)


def test_a_killed_server_leaves_nobody_behind_and_its_successor_has_its_policy_and_ledger(
    scenario: Path, bundle: Path, tmp_path: Path
) -> None:
    server = ServerProcess(scenario, tmp_path / "state", "--controller=base")
    workers = server.workers()
    assert workers
    with ControlClient(server.control) as client:
        client.deploy(bundle.read_bytes())
        time.sleep(3.5)
        before, intervals = client.status(), client.intervals()
    workers += server.workers()
    server.kill()
    assert gone(workers)

    successor = ServerProcess(scenario, tmp_path / "state")
    try:
        with ControlClient(successor.control) as client:
            after, kept = client.status(), client.intervals()
        assert after.controller == "policy"
        assert after.bundle_sha256 == before.bundle_sha256
        assert [row.start_s for row in kept][: len(intervals)] == [row.start_s for row in intervals]
        assert after.time_s >= intervals[-1].start_s + intervals[-1].duration_s
        with ControlClient(successor.control) as client:
            back = client.rollback()
        assert (back.controller, back.previous_controller) == ("base", "policy")
    finally:
        assert successor.terminate() == 0


def test_a_killed_server_is_what_it_was_when_it_comes_back(scenario: Path, tmp_path: Path) -> None:
    server = ServerProcess(scenario, tmp_path / "state", "--controller=base")
    with ControlClient(server.control) as client:
        client.activate("co2opt")
        deadline = time.monotonic() + 15.0
        while len(client.status().instances) != 7 or client.status().transition_running:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        before = client.status()
    workers = server.workers()
    assert len(workers) == 7
    server.kill()
    assert gone(workers)

    successor = ServerProcess(scenario, tmp_path / "state")
    try:
        with ControlClient(successor.control) as client:
            after = client.status()
        assert after.controller == "co2opt"
        assert after.configuration == before.configuration
    finally:
        workers = successor.workers()
        assert successor.terminate() == 0
        assert gone(workers)


def test_a_carbon_feed_that_ends_leaves_the_service_up_and_every_interval_in_the_ledger(
    scenario: Path, tmp_path: Path
) -> None:
    carbon = tmp_path / "carbon.csv"
    carbon.write_text("offset_s,gco2_per_kwh\n" + "".join(f"{3600 * h},{200 + h}\n" for h in range(7)))
    server = ServerProcess(scenario, tmp_path / "state", "--controller=base", f"--carbon={carbon}")
    try:
        with ControlClient(server.control) as client:
            deadline = time.monotonic() + 30.0
            while client.status().time_s < 9.0:  # the trace is over after six seconds of the run
                assert time.monotonic() < deadline
                time.sleep(0.2)
            status, rows = client.status(), client.intervals()
        assert status.ready
        assert "SignalEndError" in status.trouble
        assert any(row.scored for row in rows)
        assert not rows[-1].scored
        gaps = [b.start_s - (a.start_s + a.duration_s) for a, b in itertools.pairwise(rows)]
        assert max(map(abs, gaps)) < 1e-6
        assert all(row.energy_j > 0 for row in rows)
    finally:
        assert server.terminate() == 0


def test_a_ledger_of_another_scenario_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SCENARIO.replace("timeout_s: 5.0", "timeout_s: 6.0"))
    done = run_cli("serve", str(other), "--state", str(server.state), "--port=0", "--control-port=0")
    assert done.returncode == 2
    assert "the ledger was begun with scenario" in done.stderr
