"""The simulator as a mail server: what the mail adapter makes of it, and what it has recorded."""

from __future__ import annotations

import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel.delivery.providers import effects, simulator
from kernel.delivery.providers.base import Message
from kernel.delivery.providers.faults import Faults
from kernel.delivery.providers.simulated import Simulated, SimulatedConfig
from kernel.delivery.providers.smtp import Smtp, SmtpConfig
from tests.integration.delivery.conformance import message

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def serving(folder: Path, faults: Faults | None = None) -> Iterator[tuple[simulator.Simulator, Smtp]]:
    with simulator.serve(folder, faults=faults, mail_port=0) as server:
        account = client(server.mail_port)
        yield server, account
        account.close()


def client(port: int | None) -> Smtp:
    config = {"host": "127.0.0.1", "port": port, "tls": "none", "timeout_seconds": 1}
    return Smtp(SmtpConfig.model_validate(config))


def mail(*references: str) -> list[Message]:
    return [message(reference, "email") for reference in references]


def taken(folder: Path) -> Counter[str]:
    return Counter(effect.reference for effect in effects.read(folder))


def test_mail_is_recorded_with_our_reference_and_whom_it_was_for(tmp_path: Path):
    with serving(tmp_path) as (_, account):
        told = account.send(mail("r1", "r2"), "key")
    assert [outcome.state for outcome in told] == ["accepted"] * 2
    assert [(each.reference, each.address, each.account) for each in effects.read(tmp_path)] == [
        ("r1", "r1@example.org", "mail"), ("r2", "r2@example.org", "mail"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "state", "is_retryable", "count"),
    [
        ("rate_limited", "rejected", True, 0),
        ("refused", "rejected", False, 0),
        ("error_before", "rejected", True, 0),
        ("reset_before", "unknown", False, 0),
        ("reset_after", "unknown", False, 1),
        ("silent", "unknown", False, 1),
        ("malformed", "unknown", False, 1),
    ],
)
def test_a_fault_is_what_it_says_and_the_next_message_goes(
    fault: str, state: str, is_retryable: bool, count: int, tmp_path: Path
):
    with serving(tmp_path) as (server, account):
        server.script.append(fault)
        first, second = account.send(mail("r1", "r2"), "key")
        assert server.spent == Counter([fault])
    assert (first.state, first.is_retryable) == (state, is_retryable)
    assert second.state == "accepted"
    assert taken(tmp_path) == Counter({"r1": count, "r2": 1})


def test_faults_of_mail_repeat_with_the_seed_and_the_address(tmp_path: Path):
    references = [f"r{number}" for number in range(60)]
    states = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        with serving(folder, Faults(3, {"rate_limited": 0.2, "refused": 0.1})) as (_, account):
            states.append([outcome.error_code for outcome in account.send(mail(*references), "key")])
    assert states[0] == states[1]
    assert set(states[0]) == {None, "smtp_450", "smtp_550"}


def test_a_server_that_is_closed_leaves_an_open_connection_and_no_thread(tmp_path: Path):
    before = threading.active_count()
    with simulator.serve(tmp_path, mail_port=0) as server:
        open_one = smtplib.SMTP("127.0.0.1", server.mail_port, timeout=5)
        open_one.helo()
    open_one.close()
    assert threading.active_count() == before


def test_without_a_port_for_mail_there_is_none(tmp_path: Path):
    with simulator.serve(tmp_path) as server:
        assert server.mail_port is None


def test_the_command_says_where_mail_goes_and_keeps_it_through_a_kill(tmp_path: Path):
    command = [sys.executable, "-m", "kernel.delivery.providers.simulator", str(tmp_path)]
    ports = ["--port", "0", "--mail-port", "0"]
    with subprocess.Popen([*command, *ports], cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            told = started.stdout.readline().split()
            port = int(told[told.index("on") + 1].rpartition(":")[2])
            assert client(port).send(mail("r1"), "key")[0].state == "accepted"
        finally:
            started.kill()
    assert taken(tmp_path) == Counter(["r1"])


def test_a_call_holds_as_many_messages_as_the_account_says(tmp_path: Path):
    with simulator.serve(tmp_path) as server:
        config = SimulatedConfig(base_url=server.url, batch=2)
        assert Simulated(config).capabilities.batch == 2
    assert Simulated(SimulatedConfig(base_url="http://127.0.0.1:9")).capabilities.batch == 100


def test_who_waits_for_the_callbacks_sees_when_all_are_told(tmp_path: Path):
    with simulator.serve(tmp_path) as server:
        assert server.teller.waiting == 0
        told = threading.Event()
        server.teller.later(lambda _: told.set(), "id")
        assert told.wait(2)
        for _ in range(200):
            if not server.teller.waiting:
                break
            threading.Event().wait(0.01)
        assert server.teller.waiting == 0
