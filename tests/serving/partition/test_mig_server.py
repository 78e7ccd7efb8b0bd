"""A whole server on slices of a stand-in card: cut anew under load, and no request lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from clover_rl.serving.partition.fake_nvml.folder import FakeNvml
from tests.cli.process import run_cli
from tests.serving.partition.mig_checker import Checker
from tests.serving.partition.rig import SCENARIO, card_model, devices, under_load
from tests.serving.server_process import ServerProcess

ONE, BOTH = ("--partition=mig", "--devices=1"), ("--partition=mig", "--devices=0,1")
SEVEN = {f"1g@{start}" for start in range(7)}


def placed(fake: FakeNvml) -> set[str]:
    """Slices by card, as the calls made them, each of which a real card would have accepted."""
    checker = Checker(card_model(), (0, 1))
    checker.check(fake.calls())
    checker.check_whole()
    return {f"card{gpu}/{place}" for (gpu, _), place in checker.placed.items()}


def cut_into_seven(server: ServerProcess, gpus: tuple[int, ...]) -> bool:
    """Whether each GPU comes to have seven instances, on slices of one seventh."""
    wanted = {f"gpu{gpu}/{place}" for gpu in gpus for place in SEVEN}
    deadline = time.monotonic() + 40.0
    while set(devices(server)) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return set(devices(server)) == wanted


def test_mig_fake_server_cuts_anew_under_load_without_losing_a_request_and_is_adopted_after_a_kill(
    scenario: Path, cards: FakeNvml, servers: list[ServerProcess], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    server = ServerProcess(scenario, state, "--controller=base", *ONE)
    servers.append(server)
    assert set(devices(server)) == {"gpu0/7g@0"}
    assert placed(cards) == {"card1/7g@0"}
    run, sender = under_load(server, 6.0)
    time.sleep(1.0)
    assert run_cli("deploy", "co2opt", "--to", server.control).returncode == 0
    sender.join()
    assert run.report.failed == 0
    assert run.report.answered == run.report.sent > 60
    assert cut_into_seven(server, (0,))
    found = devices(server)
    assert len(set(found.values())) == 7  # each process sees a device of its own
    assert placed(cards) == {f"card1/{place}" for place in SEVEN}  # and card 0 was left alone
    server.kill()
    calls = len(cards.calls())
    again = ServerProcess(scenario, state, *ONE)
    servers.append(again)
    assert again.log.read_text().count("is adopted") == 7
    assert devices(again) == found
    assert len(cards.calls()) == calls
    assert again.terminate() == 0
    assert placed(cards) == {f"card1/{place}" for place in SEVEN}


@pytest.mark.slow
def test_mig_fake_server_serves_on_while_a_card_refuses_and_goes_where_it_is_sent_afterwards(
    scenario: Path, cards: FakeNvml, servers: list[ServerProcess], tmp_path: Path
) -> None:
    two = scenario.with_name("two.yaml")
    two.write_text(SCENARIO.replace("gpus: 1", "gpus: 2"))
    server = ServerProcess(two, tmp_path / "state", "--controller=base", *BOTH)
    servers.append(server)
    cards.inject("nvmlDeviceCreateGpuInstanceWithPlacement NO_PERMISSION gpu=1")
    run, sender = under_load(server, 5.0)
    assert run_cli("deploy", "co2opt", "--to", server.control).returncode == 0
    sender.join()
    assert run.report.failed == 0
    assert "no permission" in server.log.read_text()
    cards.heal()
    assert cut_into_seven(server, (0, 1))
    assert placed(cards) == {f"card{gpu}/{place}" for gpu in range(2) for place in SEVEN}


def test_mig_fake_start_on_cards_that_cannot_be_used_is_one_sentence(
    scenario: Path, cards: FakeNvml, tmp_path: Path
) -> None:
    for options, words in (
        (("--partition=mig",), "names 0"),
        (("--partition=mig", "--devices=0,1"), "names 2"),
        (("--partition=mig", "--devices=9"), "device 9: there is no such GPU"),
        (("--partition=none",), "unknown partition backend `none`"),
        (("--devices=0",), "emulated GPUs are no devices"),
        (("--dry-run",), "changes no card"),
    ):
        done = run_cli("serve", str(scenario), f"--state={tmp_path / 'state'}", *options)
        assert done.returncode == 2, options
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    shown = run_cli("serve", str(scenario), f"--state={tmp_path / 'state'}", *ONE, "--dry-run").stdout
    assert "gpu0: nvmlDeviceCreateGpuInstanceWithPlacement profile=0 start=0 size=8" in shown
    assert cards.calls() == ()
