"""FakeNvml: the folder of a stand-in libnvidia-ml.so.1: built, made to fail, asked what was called."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clover_rl.cluster.gpu import GpuModel, gpu_model
from clover_rl.errors import InputError, ServingError

__all__ = ["DRIVER_VERSION", "Call", "FakeNvml"]

DRIVER_VERSION = "clover-fake-1"
"""What the stand-in says its driver is; nothing it measures may pass for measured."""
SOURCE = Path(__file__).with_name("fake_nvml.c")
SLOTS = {0: 4, 5: 3, 9: 2, 14: 1, 15: 9, 19: 0, 20: 7}
"""GPU instance profile id -> its number among NVML_GPU_INSTANCE_PROFILE_* (nvml.h)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changed slices, or tried to.

    Attributes:
        pid: who called.
        function: name.
        gpu: number of the card.
        arguments: by name.
        result: NVML's code, 0 for success.
    """

    pid: int
    function: str
    gpu: int
    arguments: Mapping[str, int]
    result: int


class FakeNvml:
    """A folder with a library and its cards, as `fake_nvml.c` describes it.

    Args:
        folder: where it lies; made with `build`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.library = self.folder / "libnvidia-ml.so.1"

    @classmethod
    def build(
        cls,
        folder: Path,
        models: Sequence[str] = ("h100-80gb", "h100-80gb"),
        *,
        mig: bool = True,
        root: bool = True,
        create_ms: int = 0,
        destroy_ms: int = 0,
        power_w: tuple[float, float, float] = (72.5, 121.0, 700.0),
    ) -> FakeNvml:
        """Compile the library and describe its cards.

        Args:
            folder: made when it does not exist; slices of an earlier build are gone.
            models: one GPU model a card.
            mig: whether MIG mode is on.
            root: whether the caller may change slices.
            create_ms, destroy_ms: what making and removing a GPU instance takes, ms.
            power_w: parked, idle and limit of a card, W.

        Raises:
            InputError: no such GPU model.
            ServingError: there is no C compiler, or it fails.
        """
        fake = cls(folder)
        lines = [f"root {int(root)}", f"create_ms {create_ms}", f"destroy_ms {destroy_ms}"]
        for number, name in enumerate(models):
            lines += _card(number, gpu_model(name), mig, power_w)
        folder.mkdir(parents=True, exist_ok=True)
        fake._compile()
        (fake.folder / "cards").write_text("\n".join(lines) + "\n")
        fake.reboot()
        for left in ("faults", "load_w"):
            (fake.folder / left).unlink(missing_ok=True)
        return fake

    def _compile(self) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise ServingError("there is no C compiler", where="fake NVML", fix="install gcc")
        # under another name first: a process that has the old one mapped keeps it
        partial = self.library.with_suffix(".partial")
        command = [compiler, "-std=c11", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{self.library.name}"]
        done = subprocess.run(
            [*command, "-o", str(partial), str(SOURCE), "-ldl", "-lpthread"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise ServingError(f"the C compiler failed: {reason}", where="fake NVML")
        partial.replace(self.library)

    def environment(self) -> dict[str, str]:
        """Variables with which a process finds this library in place of the driver's."""
        before = os.environ.get("LD_LIBRARY_PATH")
        paths = [str(self.folder), *([before] if before else [])]
        return {"LD_LIBRARY_PATH": os.pathsep.join(paths), "CLOVER_FAKE_NVML": str(self.folder)}

    def inject(self, *faults: str) -> None:
        """Make calls fail from now on; see fake_nvml.c for the form of a line.

        Raises:
            InputError: a line is not `FUNCTION CODE [gpu=N] [skip=N] [times=N]`.
        """
        for line in faults:
            words = line.split()
            options = [word.partition("=") for word in words[2:]]
            if len(words) < 2 or any(
                key not in ("gpu", "skip", "times") or not value.isdigit() for key, _, value in options
            ):
                raise InputError(
                    f"`{line}` is no fault", fix="write FUNCTION|* CODE [gpu=N] [skip=N] [times=N]"
                )
        partial = self.folder / "faults.partial"
        # numbered, so that the same faults again count from the start again
        partial.write_text("".join(f"{line}\n" for line in faults) + f"# {os.urandom(8).hex()}\n")
        partial.replace(self.folder / "faults")

    def heal(self) -> None:
        """No call fails any more."""
        (self.folder / "faults").unlink(missing_ok=True)

    def reboot(self) -> None:
        """All slices are lost, as on a reset or a reboot; the log begins anew."""
        state = self.folder / "state.bin"
        if state.is_file():  # in place, since processes have it mapped
            size = state.stat().st_size
            with state.open("r+b") as file:
                file.write(bytes(size))
        (self.folder / "calls.log").unlink(missing_ok=True)

    def load(self, watts: Mapping[int, float]) -> None:
        """What cards draw on top of idle power from now on, W."""
        partial = self.folder / "load_w.partial"
        partial.write_text("".join(f"{gpu} {extra:g}\n" for gpu, extra in watts.items()))
        partial.replace(self.folder / "load_w")

    def calls(self) -> tuple[Call, ...]:
        """Every call that changed slices, or tried to, in order."""
        path = self.folder / "calls.log"
        lines = path.read_text().splitlines() if path.is_file() else []
        found = []
        for line in lines:
            pid, function, gpu, *arguments, result = line.split()
            pairs = (argument.split("=") for argument in arguments)
            found.append(
                Call(int(pid), function, int(gpu), {key: int(value) for key, value in pairs}, int(result))
            )
        return tuple(found)


def _card(number: int, model: GpuModel, mig: bool, power_w: tuple[float, float, float]) -> list[str]:
    whole = model.slices["7g"]
    lines = [
        f"gpu GPU-c10efa4e-0000-4000-8000-{number:012x}",
        f"name {model.title}",
        f"mig {int(mig)}",
        "power_mw " + " ".join(f"{watts * 1000.0:.0f}" for watts in power_w),
        f"memory_mib {whole.memory_mib}",
    ]
    for kind in model.slices.values():
        starts = ",".join(map(str, kind.starts))
        row = (
            *(SLOTS[kind.profile_id], kind.profile_id, kind.compute, kind.size, kind.sms, kind.memory_mib),
            *(int(kind.media), kind.nvml_name, starts),
        )
        lines.append("profile " + " ".join(map(str, row)))
    return lines
