"""The planner: orders the steps of a transition so that as much as possible goes on serving."""

from __future__ import annotations

from collections.abc import Sequence

from clover_rl.cluster.configuration import ClusterConfiguration, GpuConfiguration, PlacedVariant
from clover_rl.cluster.profile import Profile
from clover_rl.cluster.transition import Step, StepKind, TransitionPlan
from clover_rl.errors import TransitionError

__all__ = ["assign_gpus", "capacity_alone", "plan_transition"]


def capacity_alone(configuration: ClusterConfiguration | GpuConfiguration, profile: Profile) -> float:
    """Requests/s at full utilisation, neighbours' interference left aside."""
    gpus = configuration.gpus if isinstance(configuration, ClusterConfiguration) else (configuration,)
    return sum(
        1.0 / profile.service_s[item.variant][item.placement.slice] for gpu in gpus for item in gpu.placed
    )


def assign_gpus(
    source: ClusterConfiguration,
    target: ClusterConfiguration,
    available: Sequence[bool] | None = None,
) -> ClusterConfiguration:
    """The target with its GPUs permuted so that the way from the source costs least.

    GPUs are interchangeable. In this order: GPUs that need no change, GPUs of the same layout (variants are
    swapped in place), parked GPUs (they are filled before others are emptied), then the GPU that keeps most
    slices. GPUs that are not available are left parked.

    Raises:
        TransitionError: the two differ in their number of GPUs, or the target needs more than are available.
    """
    if len(source.gpus) != len(target.gpus):
        raise TransitionError(
            f"the target has {len(target.gpus)} GPUs and the cluster {len(source.gpus)}",
            fix="use a configuration of this cluster",
        )
    free = [index for index in range(len(source.gpus)) if available is None or available[index]]
    if target.active > len(free):
        raise TransitionError(
            f"the target uses {target.active} GPUs and {len(free)} are available",
            fix="choose a configuration with fewer active GPUs",
        )
    wanted = [gpu for gpu in target.gpus if not gpu.parked]
    chosen: dict[int, GpuConfiguration] = {}

    def take(index: int, gpu: GpuConfiguration) -> None:
        chosen[index] = gpu
        free.remove(index)

    def pass_over(fitting: Sequence[str]) -> None:
        for gpu in list(wanted):
            for index in free:
                if _relation(source.gpus[index], gpu) in fitting:
                    take(index, gpu)
                    wanted.remove(gpu)
                    break

    pass_over(("same",))
    pass_over(("swap",))
    pass_over(("fill",))
    for gpu in wanted:
        take(max(free, key=lambda index: (_kept(source.gpus[index], gpu), -index)), gpu)
    return ClusterConfiguration(
        tuple(chosen.get(index, GpuConfiguration()) for index in range(len(source.gpus)))
    )


def _relation(old: GpuConfiguration, new: GpuConfiguration) -> str:
    if old == new:
        return "same"
    if old.parked:
        return "fill"
    if new.parked:
        return "park"
    return "swap" if old.layout == new.layout else "recut"


def _kept(old: GpuConfiguration, new: GpuConfiguration) -> int:
    return len(set(old.placed) & set(new.placed))


def _all_fit_beside(old: GpuConfiguration, new: GpuConfiguration, profile: Profile) -> bool:
    return all(
        profile.fits_beside(after.variant, before.variant, profile.gpu.slice_type(after.placement.slice))
        for before, after in zip(old.placed, new.placed, strict=True)
        if before != after
    )


class _Builder:
    """Collects the steps of one plan."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.steps: list[Step] = []

    def add(
        self, what: StepKind, gpu: int, item: PlacedVariant, needs: Sequence[int], duration_s: float
    ) -> int:
        variant = None if what in ("create", "destroy") else item.variant
        self.steps.append(Step(what, gpu, item.placement, variant, tuple(needs), duration_s))
        return len(self.steps) - 1

    def drain(self, gpu: int, item: PlacedVariant, needs: Sequence[int]) -> int:
        longest = self.profile.service_s[item.variant][item.placement.slice]
        return self.add("drain", gpu, item, needs, longest)

    def load(self, gpu: int, item: PlacedVariant, needs: Sequence[int]) -> int:
        return self.add("load", gpu, item, needs, self.profile.times.load_s[item.variant])

    def swap(self, gpu: int, old: PlacedVariant, new: PlacedVariant, needs: Sequence[int]) -> int:
        slice_type = self.profile.gpu.slice_type(new.placement.slice)
        if self.profile.fits_beside(new.variant, old.variant, slice_type):
            return self.add("switch", gpu, new, [self.load(gpu, new, needs)], 0.0)
        loaded = self.load(gpu, new, [self.drain(gpu, old, needs)])
        return self.add("ready", gpu, new, [loaded], 0.0)

    def remove(self, gpu: int, items: Sequence[PlacedVariant], needs: Sequence[int]) -> list[int]:
        """Drains together, destroys one after the other as NVML does on one card."""
        drained = [self.drain(gpu, item, needs) for item in items]
        done: list[int] = []
        for item in items:
            done = [self.add("destroy", gpu, item, [*drained, *done], self.profile.times.destroy_s)]
        return done

    def build(self, gpu: int, items: Sequence[PlacedVariant], needs: Sequence[int]) -> list[int]:
        """Creates one after the other; each slice loads as soon as it exists."""
        ready: list[int] = []
        before = list(needs)
        for item in items:
            created = self.add("create", gpu, item, before, self.profile.times.create_s)
            before = [created]
            loaded = self.load(gpu, item, [created])
            ready.append(self.add("ready", gpu, item, [loaded], 0.0))
        return ready

    def change(
        self, gpu: int, old: GpuConfiguration, new: GpuConfiguration, needs: Sequence[int]
    ) -> list[int]:
        """Everything one GPU needs; untouched slices go on serving."""
        places = {item.placement: item for item in old.placed}
        swaps = [
            (places[item.placement], item)
            for item in new.placed
            if item.placement in places and places[item.placement] != item
        ]
        gone = [item for item in old.placed if new.variant_on(item.placement) is None]
        added = [item for item in new.placed if item.placement not in places]
        last = [self.swap(gpu, before, after, needs) for before, after in swaps]
        removed = self.remove(gpu, gone, needs) if gone else list(needs)
        if gone and not added:
            last += removed
        return last + (self.build(gpu, added, removed) if added else [])


def plan_transition(
    source: ClusterConfiguration,
    target: ClusterConfiguration,
    profile: Profile,
    *,
    load_rps: float | None = None,
    available: Sequence[bool] | None = None,
) -> TransitionPlan:
    """A plan from source to target; GPUs of the target are permuted as suits (see `assign_gpus`).

    Parked GPUs are filled first, variants are swapped beside each other where memory allows, GPUs are recut,
    or swapped without room beside, one after the other (several at once only while the rest can carry the
    load), and GPUs are emptied last.

    Args:
        source: the cluster as it is.
        target: what it shall become.
        profile: gives times, memory and service times.
        load_rps: requests/s to be carried meanwhile; unknown means that GPUs are recut one at a time.
        available: per GPU, whether it may be used; all when left out.

    Raises:
        TransitionError: the two differ in their number of GPUs, or the target needs more than are available.
    """
    placed = assign_gpus(source, target, available)
    groups: dict[str, list[int]] = {"fill": [], "swap": [], "recut": [], "park": []}
    for index, (old, new) in enumerate(zip(source.gpus, placed.gpus, strict=True)):
        relation = _relation(old, new)
        if relation == "swap" and not _all_fit_beside(old, new, profile):
            relation = "recut"  # instances must go before their successors load: as costly as a recut
        if relation != "same":
            groups[relation].append(index)
    builder = _Builder(profile)
    before: list[int] = []
    waves = [
        groups["fill"],
        groups["swap"],
        *_recut_waves(source, placed, groups["recut"], {*groups["fill"], *groups["swap"]}, profile, load_rps),
    ]
    for wave in [*waves, groups["park"]]:
        ends: list[int] = []
        for index in wave:
            ends += builder.change(index, source.gpus[index], placed.gpus[index], before)
        before = ends or before
    return TransitionPlan(source, placed, tuple(builder.steps))


def _recut_waves(
    source: ClusterConfiguration,
    target: ClusterConfiguration,
    recut: Sequence[int],
    changed: set[int],
    profile: Profile,
    load_rps: float | None,
) -> list[list[int]]:
    """GPUs that may be recut at the same time: the others must carry the load with a tenth to spare.

    `changed` are the GPUs filled and swapped before, which serve as in the target by then.
    """
    waves: list[list[int]] = []
    done = set(changed)
    for index in recut:
        if waves and load_rps is not None:
            wave = {*waves[-1], index}
            rest = sum(
                capacity_alone(target.gpus[i] if i in done else source.gpus[i], profile)
                for i in range(len(source.gpus))
                if i not in wave
            )
            if rest * 0.9 >= load_rps:
                waves[-1].append(index)
                continue
        done.update(waves[-1] if waves else ())
        waves.append([index])
    return waves
