"""Checks a log of NVML calls: each must be one that a card with MIG's rules accepts, in that order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from clover_rl.cluster.geometry import Layout, Placement
from clover_rl.cluster.gpu import GpuModel
from clover_rl.serving.partition.fake_nvml.folder import Call


@dataclass
class Checker:
    """Books of what the calls that succeeded made, by rules written down here a second time.

    Args:
        model: geometry of the cards.
        given: cards that may be touched at all.
    """

    model: GpuModel
    given: Collection[int]
    placed: dict[tuple[int, int], Placement] = field(default_factory=dict)
    compute: dict[tuple[int, int], set[int]] = field(default_factory=dict)

    def check(self, calls: Iterable[Call]) -> None:
        names = {kind.profile_id: kind.name for kind in self.model.slices.values()}
        for call in calls:
            assert call.gpu in self.given, f"{call} touches a card that was not given"
            if call.result:
                continue
            key = (call.gpu, call.arguments["gi"])
            match call.function:
                case "nvmlDeviceCreateGpuInstanceWithPlacement":
                    arguments = call.arguments
                    place = Placement(arguments["start"], arguments["size"], names[arguments["profile"]])
                    assert key not in self.placed
                    Layout.of(self.model, [*self.on(call.gpu), place])
                    self.placed[key], self.compute[key] = place, set()
                case "nvmlGpuInstanceCreateComputeInstance":
                    assert key in self.placed, f"{call}: there is no such GPU instance"
                    assert not self.compute[key], f"{call}: a second compute instance"
                    self.compute[key].add(call.arguments["ci"])
                case "nvmlComputeInstanceDestroy":
                    self.compute[key].remove(call.arguments["ci"])
                case "nvmlGpuInstanceDestroy":
                    assert not self.compute.pop(key), f"{call}: its compute instance is still there"
                    del self.placed[key]
                case other:
                    raise AssertionError(f"unexpected call {other}")

    def on(self, gpu: int) -> list[Placement]:
        return sorted(place for (number, _), place in self.placed.items() if number == gpu)

    def check_whole(self) -> None:
        """Every GPU instance has its compute instance."""
        assert all(len(numbers) == 1 for numbers in self.compute.values())
