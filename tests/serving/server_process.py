"""A server as its users start it: `clover-rl serve` in a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

from clover_rl.errors import ServingError
from clover_rl.serving.clients.control_client import ControlClient
from tests.cli.process import CLI


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """Starts a server and waits until somebody is in charge of it."""

    def __init__(self, scenario: Path, state: Path, *options: str) -> None:
        self.state = state
        self.port, self.control_port = free_port(), free_port()
        self.address, self.control = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.control_port}"
        self.log = state.with_suffix(".log")
        command = [*CLI, "serve", str(scenario), f"--state={state}", f"--port={self.port}"]
        command += [f"--control-port={self.control_port}", "--metrics-port=0", *options]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with ControlClient(self.control, timeout_s=2.0) as client:
                    if client.status().controller:
                        return
            except ServingError:
                time.sleep(0.1)
        self.end()
        raise AssertionError(self.log.read_text())

    def workers(self) -> list[int]:
        """Process ids of the instances."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in children if "clover_rl.serving.worker" in " ".join(child.cmdline())]

    def terminate(self, timeout: float = 30.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10.0)

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()


def gone(pids: list[int], within_s: float = 5.0) -> bool:
    """Whether all processes have ended, zombies included."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        alive = [pid for pid in pids if psutil.pid_exists(pid) and _state(pid) != "Z"]
        if not alive:
            return True
        time.sleep(0.05)
    return False


def _state(pid: int) -> str:
    try:
        found = re.search(r"^State:\s+(\w)", Path(f"/proc/{pid}/status").read_text(), re.M)
    except OSError:
        return "Z"
    return found.group(1) if found else "Z"
