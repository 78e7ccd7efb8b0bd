"""MpsDaemon: an MPS control daemon of our own in a private folder, and the end of those that crashes left."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from clover_rl.errors import ServingError

__all__ = ["CONTROL", "MpsDaemon", "sweep"]

log = logging.getLogger(__name__)

CONTROL = "nvidia-cuda-mps-control"
PREFIX = "clover-rl-mps-"
"""Folders lie in the system's folder for temporary files: a socket's path must be shorter than 108 bytes."""
TRIES = 5
ANSWER_S, QUIT_S, WATCH_S = 10.0, 15.0, 1.0
_BASE = Path(tempfile.gettempdir())


class MpsDaemon:
    """A daemon for some GPUs, watched and started again when it ends.

    Its folder holds a lock for as long as this process lives; a folder whose lock is free was left by a
    crash, and the next daemon to start anywhere under this user ends what runs there and removes it.

    Args:
        devices: UUIDs of the GPUs that it may use.

    Raises:
        ServingError: MPS is not installed, or the daemon does not start.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        if shutil.which(CONTROL) is None:
            raise ServingError(
                f"{CONTROL} is not on the PATH",
                where="mps backend",
                fix="install the NVIDIA driver's MPS tools, or use --partition mig or emulated",
            )
        sweep()
        self._devices = ",".join(devices)
        self.folder, self._lock = _own_folder()
        self._stop = threading.Event()
        self.restarts = 0
        try:
            self._start()
        except BaseException:
            _quit(self.folder)  # it may have started and only not answered
            self._remove()
            raise
        self._watcher = threading.Thread(target=self._watch, name="mps-daemon", daemon=True)
        self._watcher.start()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables by which a process finds this daemon."""
        return _environment(self.folder)

    def ask(self, command: str) -> str:
        """Send a command of the control program, as get_server_list; returns what it prints.

        Raises:
            ServingError: the daemon does not answer.
        """
        return _ask(self.folder, command, ANSWER_S)

    def close(self) -> None:
        """End the daemon and its servers, and remove the folder."""
        self._stop.set()
        self._watcher.join()
        _quit(self.folder)
        self._remove()

    # --- inside

    def _start(self) -> None:
        environment = {**os.environ, **self.environment, "CUDA_VISIBLE_DEVICES": self._devices}
        for kind in ("pipe", "log"):
            (self.folder / kind).mkdir(exist_ok=True)
        try:
            done = subprocess.run(
                [CONTROL, "-d"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=ANSWER_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServingError("the MPS daemon does not start", where="mps backend") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise ServingError(
                f"the MPS daemon does not start: {said[-1] if said else f'status {done.returncode}'}",
                where="mps backend",
                fix="see whether another user's MPS daemon is in the way",
            )
        self.ask("get_server_list")

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            if _daemon_pid(self.folder) is not None:
                continue
            self.restarts += 1
            log.warning("the MPS daemon ended; it is started again")
            try:
                self._start()
            except ServingError as error:
                log.error("%s", error)

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def sweep() -> int:
    """End daemons and remove folders that crashed processes of this user left; returns how many."""
    found = 0
    for folder in _BASE.glob(f"{PREFIX}{os.getuid()}-*"):
        try:
            if folder.stat().st_uid != os.getuid() or folder.is_symlink():
                continue
            lock = _locked(folder)
        except OSError:
            continue  # somebody lives there, or has just cleaned up
        log.warning("a process that crashed left an MPS daemon's folder; it is cleaned up")
        _quit(folder)
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
        found += 1
    return found


def _own_folder() -> tuple[Path, IO[str]]:
    """A new folder and its lock."""
    for _ in range(TRIES):
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-", dir=_BASE))
        try:
            return folder, _locked(folder)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # another server's sweep came before the lock
    raise ServingError("no folder for the MPS daemon lasts", where=str(_BASE), fix="see who removes it")


def _locked(folder: Path) -> IO[str]:
    file = (folder / "owner").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _environment(folder: Path) -> dict[str, str]:
    return {
        "CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"),
        "CUDA_MPS_LOG_DIRECTORY": str(folder / "log"),
    }


def _ask(folder: Path, command: str, within_s: float) -> str:
    try:
        done = subprocess.run(
            [CONTROL],
            input=f"{command}\n",
            env={**os.environ, **_environment(folder)},
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServingError("the MPS daemon does not answer", where="mps backend") from error
    if done.returncode:
        raise ServingError("the MPS daemon does not answer", where="mps backend")
    return done.stdout.strip()


def _daemon_pid(folder: Path) -> int | None:
    """The daemon's process; None when it has ended."""
    try:
        pid = int((folder / "pipe" / f"{CONTROL}.pid").read_text().strip("\0 \n"))
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid if _is_daemon_of(pid, folder) else None


def _is_daemon_of(pid: int, folder: Path) -> bool:
    """Whether a process is the daemon of that folder: numbers of processes are used again."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"CUDA_MPS_PIPE_DIRECTORY={folder / 'pipe'}".encode() in environment


def _quit(folder: Path) -> None:
    pid = _daemon_pid(folder)
    if pid is None:
        return
    with contextlib.suppress(ServingError):
        _ask(folder, "quit -t 2", QUIT_S)
    end = time.monotonic() + 2.0
    while _daemon_pid(folder) is not None and time.monotonic() < end:
        time.sleep(0.02)
    if _daemon_pid(folder) is not None:
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
