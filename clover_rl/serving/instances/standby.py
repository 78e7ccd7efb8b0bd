"""Standby: processes that hold a loaded variant and serve no slice, ready to take one over."""

from __future__ import annotations

from clover_rl.serving.instances.instance import Instance
from clover_rl.serving.worker.spec import InstanceSpec

__all__ = ["Standby"]

_NAME = "CLOVER_RL_SLICE"
"""Says where a slice lies: a process on an equal share of the same card can take it over."""
_Key = tuple[object, ...]


class Standby:
    """Waiting processes, at most so many.

    Args:
        most: how many; 0 for none.
    """

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._waiting: dict[_Key, list[Instance]] = {}
        self._number = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, instance: Instance) -> bool:
        """Let an idle process wait; False when there is no room, or it cannot be spoken to."""
        if len(self) >= self._most or not instance.alive or instance.busy or instance.ready is None:
            return False
        self._number += 1
        instance.key = f"standby {self._number}"
        self._waiting.setdefault(_key(instance.spec), []).append(instance)
        return True

    def take(self, spec: InstanceSpec) -> Instance | None:
        """A process that can become that, longest waiting first; None when there is none."""
        waiting = self._waiting.get(_key(spec), [])
        for found in waiting:
            if found.alive and not found.exited:
                waiting.remove(found)
                return found
        return None  # the dead stay until the pool is told of them and cleans up

    def discard(self, instance: Instance) -> bool:
        """Forget one that died; whether it was here."""
        waiting = self._waiting.get(_key(instance.spec), [])
        if instance not in waiting:
            return False
        waiting.remove(instance)
        return True

    def clear(self) -> list[Instance]:
        """Forget all, and return them."""
        found = [instance for waiting in self._waiting.values() for instance in waiting]
        self._waiting.clear()
        return found


def _key(spec: InstanceSpec) -> _Key:
    environment = sorted((k, v) for k, v in spec.environment.items() if k != _NAME)
    return (spec.variant, spec.model, spec.threads, *environment)
