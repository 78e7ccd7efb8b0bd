"""What a start would do to the cards, told and not done."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from clover_rl.cluster.configuration import ClusterConfiguration
from clover_rl.cluster.profile import Profile
from clover_rl.errors import InputError
from clover_rl.serving.partition.mig import MigPartition
from clover_rl.serving.partition.mig_dry import DryCard
from clover_rl.serving.partition.nvml import Nvml
from clover_rl.serving.partition.select import PartitionSettings, open_cards

__all__ = ["first_configuration", "tell_steps"]


def first_configuration(ledger: Path, profile: Profile, base: ClusterConfiguration) -> ClusterConfiguration:
    """What a server would bring up first: the ledger's last decision, else BASE. The file is only read.

    Raises:
        InputError: there is a ledger that cannot be read, or it is of another profile.
    """
    if not ledger.is_file():
        return base
    try:
        with closing(sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT configuration FROM decisions ORDER BY id DESC LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"cannot be used as a ledger ({error})", where=str(ledger), fix="name another --state folder"
        ) from None
    return ClusterConfiguration.parse(row[0], profile) if row else base


async def tell_steps(
    settings: PartitionSettings, profile: Profile, target: ClusterConfiguration
) -> list[str]:
    """What a start would do to the cards, call by call; nothing is done.

    Args:
        settings: which backend.
        profile: its GPU model.
        target: the first configuration.

    Raises:
        InputError: the settings cannot be, or there is nothing to tell.
        TransitionError: a card cannot be asked.
    """
    settings.check(len(target.gpus))
    if settings.backend != "mig":
        raise InputError(f"the {settings.backend} backend changes no card", fix="use --partition mig")
    lines: list[str] = []
    with Nvml() as nvml:
        cards = [DryCard(card, gpu, lines.append) for gpu, card in enumerate(open_cards(nvml, settings))]
        backend = MigPartition(cards, profile.gpu)
        lines += await backend.recover([gpu.layout.placements for gpu in target.gpus])
        for number, gpu in enumerate(target.gpus):
            for item in gpu.placed:
                piece = await backend.create(number, item.placement)
                lines.append(f"{piece}: start {item.variant} with CUDA_VISIBLE_DEVICES={piece.device}")
    return lines
