"""The simulator: its record outlives it, its faults repeat, its callbacks can be checked. And messages into files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kernel.delivery.providers import effects, simulator
from kernel.delivery.providers.adapter import utc_now
from kernel.delivery.providers.base import Message
from kernel.delivery.providers.callbacks import Callbacks
from kernel.delivery.providers.faults import FAULTS, Faults
from kernel.delivery.providers.file import File, FileConfig
from kernel.delivery.providers.registry import PROVIDERS
from kernel.delivery.providers.simulated import Simulated, SimulatedConfig
from tests.integration.delivery.conformance import message

ROOT = Path(__file__).resolve().parents[3]
HOOK = "whsec_aGVsbG8="


def client(url: str, mode: str = "keys", account: str = "a") -> Simulated:
    given = SimulatedConfig(base_url=url, mode=mode, account=account, timeout_seconds=2)
    return Simulated(given, callback_secret=HOOK)


def mail(*references: str) -> list[Message]:
    return [message(reference, "email") for reference in references]


def counted(folder: Path) -> Counter[str]:
    return Counter(effect.reference for effect in effects.read(folder))


@contextmanager
def process(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [
        sys.executable,
        "-m",
        "kernel.delivery.providers.simulator",
        str(folder),
        "--port",
        "0",
        *options,
    ]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield started, started.stdout.readline().split()[0]
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


def test_a_simulator_that_is_killed_knows_its_effects_and_keys(tmp_path: Path):
    with process(tmp_path, "--fault", "reset_after=1") as (started, url):
        assert {told.state for told in client(url).send(mail("r1", "r2"), "key")} == {"unknown"}
        os.kill(started.pid, signal.SIGKILL)
    with process(tmp_path) as (_, url):
        assert {told.state for told in client(url).send(mail("r1", "r2"), "key")} == {"accepted"}
        client(url).send(mail("r3"), "other key")
    assert counted(tmp_path) == Counter(["r1", "r2", "r3"])
    assert len({effect.id for effect in effects.read(tmp_path)}) == 3


def test_a_line_that_a_kill_left_unfinished_is_no_effect(tmp_path: Path):
    with simulator.serve(tmp_path) as server:
        client(server.url).send(mail("r1"), "key 1")
    with (tmp_path / effects.FILE).open("a") as file:
        file.write('{"digest": "half' + "f" * 1000)
    assert counted(tmp_path) == Counter(["r1"])
    with simulator.serve(tmp_path) as server:
        client(server.url).send(mail("r2"), "key 2")
    assert counted(tmp_path) == Counter(["r1", "r2"])


@pytest.mark.parametrize(
    ("mode", "times", "found"),
    [("none", 2, None), ("keys", 1, None), ("lookup", 2, True), ("keys-lookup", 1, True)],
)
def test_a_mode_is_what_an_account_can_do(mode: str, times: int, found: bool | None, tmp_path: Path):
    with simulator.serve(tmp_path) as server:
        account = client(server.url, mode)
        first, _ = (account.send(mail("r1"), "key")[0] for _ in range(2))
        assert counted(tmp_path)["r1"] == times
        assert (account.capabilities.key_window is not None) == ("keys" in mode)
        assert account.capabilities.lookup == bool(found)
        if found:
            assert account.lookup(*mail("r1"), "key").message_id == first.message_id
            assert account.lookup(*mail("r2"), "key") is None
            assert client(server.url, mode, "b").lookup(*mail("r1"), "key") is None


def test_a_key_with_another_body_is_a_conflict_and_has_no_effect(tmp_path: Path):
    with simulator.serve(tmp_path) as server:
        client(server.url).send(mail("r1"), "key")
        (told,) = client(server.url).send(mail("r2"), "key")
        assert (told.state, told.http_status) == ("unknown", 409)
        assert client(server.url, account="b").send(mail("r2"), "key")[0].state == "accepted"
    assert counted(tmp_path) == Counter(["r1", "r2"])


def test_a_replay_that_comes_while_the_first_call_is_under_way_has_no_second_effect(tmp_path: Path):
    with simulator.serve(tmp_path) as server, ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: client(server.url).send(mail("r1"), "key")[0], range(8)))
    assert len({outcome.message_id for outcome in told}) == 1
    assert counted(tmp_path) == Counter(["r1"])


def test_faults_are_as_frequent_as_ordered_and_repeat_with_the_seed():
    rates = {"rate_limited": 0.2, "reset_after": 0.1}
    drawn = [Faults(7, rates, 0.5).of(f"request {number}", 1) for number in range(4000)]
    assert drawn == [Faults(7, rates, 0.5).of(f"request {number}", 1) for number in range(4000)]
    assert drawn != [Faults(8, rates, 0.5).of(f"request {number}", 1) for number in range(4000)]
    shares = Counter(fault for fault, _ in drawn)
    assert shares["rate_limited"] == pytest.approx(800, rel=0.15)
    assert shares["reset_after"] == pytest.approx(400, rel=0.2)
    assert all(0 <= latency <= 0.5 for _, latency in drawn)
    assert Faults(7, dict.fromkeys(FAULTS, 1 / len(FAULTS))).of("x", 1)[0] in FAULTS


@pytest.mark.parametrize(
    "rates", [{"plague": 0.1}, {"drip": 1.1}, {"drip": -0.1}, {"drip": 0.6, "short": 0.6}]
)
def test_faults_that_cannot_be_are_refused(rates: dict[str, float]):
    with pytest.raises(ValueError, match="fault"):
        Faults(rates=rates)


# Callbacks -------------------------------------------------------------------------------------------------------


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    came: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.append((dict(self.headers) | {":path": self.path}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/callbacks", came
        server.shutdown()
        thread.join()


def wait_for(came: list[Any], count: int) -> None:
    until = time.monotonic() + 3
    while len(came) < count and time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["resend", "twilio", "vapi", "simulator"])
def test_a_callback_is_one_that_the_adapter_takes_and_names_our_reference(name: str, tmp_path: Path):
    kind = PROVIDERS[name]
    with receiver() as (url, came), simulator.serve(tmp_path, callbacks=Callbacks(url, HOOK)) as server:
        config = {
            "resend": {"base_url": f"{server.url}/keys/a"},
            "twilio": {"base_url": f"{server.url}/none/a", "account_sid": "AC0123", "callback_url": url},
            "vapi": {"base_url": f"{server.url}/none/a", "assistant_id": "a", "phone_number_id": "p"},
            "simulator": {"base_url": server.url},
        }[name]
        account = kind(kind.Config.model_validate(config), secret="token", callback_secret=HOOK)
        server.script.append("reset_after")
        given = message("r1", kind.channels[0])
        assert account.send([given], "key")[0].state == "unknown"
        wait_for(came, 1)
    (event,) = account.events(*came[0], utc_now())
    assert (event.reference, event.address) == ("r1", given.address)
    assert event.message_id.endswith(effects.read(tmp_path)[0].id)
    assert event.kind == ("answered" if name == "vapi" else "delivered")


def test_callbacks_come_late_and_twice_and_are_one_event(tmp_path: Path):
    with receiver() as (url, came):
        told = Callbacks(url, HOOK, delay_seconds=0.3, duplicates=1)
        with simulator.serve(tmp_path, callbacks=told) as server:
            account = client(server.url)
            account.send(mail("r1"), "key")
            time.sleep(0.1)
            assert not came
            wait_for(came, 2)
    assert len({account.events(*each, utc_now())[0].event_id for each in came}) == 1
    assert len(came) == 2


# Files -----------------------------------------------------------------------------------------------------------


def files(folder: Path) -> File:
    return File(FileConfig(folder=str(folder)))


def test_a_call_is_one_file_that_is_whole_and_never_changes(tmp_path: Path):
    first = files(tmp_path).send(mail("r1", "r2"), "key")
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert [json.loads(line)["reference"] for line in content.splitlines()] == ["r1", "r2"]
    assert [json.loads(line)["id"] for line in content.splitlines()] == [told.message_id for told in first]
    assert files(tmp_path).send(mail("r1", "r2"), "key") == first
    (other,) = files(tmp_path).send(mail("r3"), "key")
    assert (other.state, other.is_retryable, other.error_code) == ("rejected", False, "key_reused")
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(path, content)]


def test_the_same_call_from_several_threads_is_one_file(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: files(tmp_path).send(mail("r1"), "key")[0], range(16)))
    assert len(set(map(repr, told))) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_has_taken_nothing(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    (told,) = files(tmp_path / "taken").send(mail("r1"), "key")
    assert (told.state, told.is_retryable, told.error_code) == ("rejected", True, "not_written")


def test_a_disk_that_fails_before_the_name_took_nothing_and_after_it_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    synced = []

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) in fails:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    fails = {1}
    assert files(tmp_path).send(mail("r1"), "key 1")[0].state == "rejected"
    assert not list(tmp_path.iterdir())
    synced.clear()
    fails = {2}
    assert files(tmp_path).send(mail("r1"), "key 2")[0].state == "unknown"
    assert files(tmp_path).send(mail("r1"), "key 2")[0].state == "accepted"


def test_the_window_of_files_can_be_added_to_an_instant():
    window = File.capabilities.key_window
    assert utc_now() + window > utc_now() - window
    assert window > timedelta(days=3650)
