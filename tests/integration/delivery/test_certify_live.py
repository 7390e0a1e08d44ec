"""E1 and V1 go through a real account: shown against a service that speaks as the provider does, over HTTP and signed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kernel.delivery.providers import simulator
from kernel.delivery.providers.callbacks import Callbacks
from kernel.errors import RefusedError
from quality.certification.delivery import ledgers, live, rules
from quality.certification.delivery.world import World
from quality.certification.prct.checks import Checks

SECRET = "whsec_aGVsbG8="
TO = {"email": "ann@example.com", "voice": "+15550102030"}


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def service(tmp_path: Path, port: int) -> Iterator[simulator.Simulator]:
    told = Callbacks(f"http://127.0.0.1:{port}/callbacks", SECRET, delay_seconds=0.2)
    with simulator.serve(tmp_path / "service", callbacks=told) as serving:
        yield serving


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVE_KEY", "re_123")
    monkeypatch.setenv("LIVE_CALLBACKS", SECRET)


def account(service: simulator.Simulator, port: int, channel: str, **changed: Any) -> live.Account:
    given = {
        "email": {"provider": "resend", "sender": "a@example.com", "config": {}},
        "voice": {
            "provider": "vapi",
            "sender": "+15550102000",
            "config": {"assistant_id": "x", "phone_number_id": "y"},
        },
    }[channel]
    at = {"base_url": f"{service.url}/keys/{channel}", "callback_secret_env": "LIVE_CALLBACKS"}
    given = given | {"config": given["config"] | at, "secret_env": "LIVE_KEY"}
    return live.Account(
        **(given | {"channel": channel, "to": TO[channel], "port": port, "wait_seconds": 10} | changed)
    )


def shown(engine: sa.Engine, folder: Path, **accounts: live.Account) -> tuple[dict[str, str], World]:
    world = World(engine, folder, live=accounts)
    checks = Checks("live")
    live.live(world, checks)
    return {check.id: check.found for check in checks.made}, world


@pytest.mark.parametrize("channel", ["email", "voice"])
def test_one_message_is_sent_and_shown_by_its_signed_callback(
    engine: sa.Engine, tmp_path: Path, service: simulator.Simulator, port: int, channel: str
) -> None:
    found, world = shown(engine, tmp_path, **{channel: account(service, port, channel)})
    assert found[f"live.{channel}"] == "PASS"
    (effect,) = service.effects()
    assert effect.address == TO[channel]
    measured = world.measured["live"][channel]
    assert (measured["message"], measured["endpoint"]) == (effect.id, service.url.removeprefix("http://"))
    assert measured["events"] == [{"email": "delivered", "voice": "answered"}[channel]]
    with engine.begin() as connection:
        rows = ledgers.of(connection, [])
    assert [event["kind"] for event in rows["events"]] == measured["events"]
    assert TO[channel] not in json.dumps(rows)
    whole = Checks("whole")
    rules.whole(world, whole)
    assert [check.id for check in whole.made if not check.passed] == []


def test_without_an_account_it_was_not_run_and_says_how(engine: sa.Engine, tmp_path: Path) -> None:
    found, _ = shown(engine, tmp_path)
    assert set(found) == {"live.email", "live.voice"}
    for channel in TO:
        assert found[f"live.{channel}"].startswith(
            f"NOT_RUN: name a file in REVENUE_OS_LIVE_{channel.upper()}"
        )


def test_a_message_whose_callback_never_comes_fails(engine: sa.Engine, tmp_path: Path, port: int) -> None:
    with simulator.serve(tmp_path / "silent") as silent:
        found, _ = shown(engine, tmp_path, email=account(silent, port, "email", wait_seconds=1))
    assert found["live.email"] == "FAIL: the message stands as sent, and no signed callback came in 1 s"


def test_a_callback_that_somebody_else_signed_shows_nothing(
    engine: sa.Engine,
    tmp_path: Path,
    service: simulator.Simulator,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIVE_CALLBACKS", "whsec_b3RoZXI=")
    found, world = shown(engine, tmp_path, email=account(service, port, "email", wait_seconds=2))
    assert found["live.email"].startswith("FAIL: the message stands as sent, and no signed callback came")
    assert world.measured["live"]["email"]["callbacks_refused"] == 1


def test_a_refused_message_fails_at_once_and_says_why(
    engine: sa.Engine, tmp_path: Path, service: simulator.Simulator, port: int
) -> None:
    service.script.append("unauthorized")
    found, _ = shown(engine, tmp_path, email=account(service, port, "email"))
    assert found["live.email"].startswith("FAIL: the message stands as failed: ")
    assert service.effects() == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"provider": "simulator"}, "nobody is reached through simulator"),
        ({"config": {}}, "takes no signed callbacks"),
        ({"provider": "nobody"}, "cannot be used: provider"),
        ({"secret_env": "LIVE_NOTHING"}, "cannot be used: credentials"),
    ],
)
def test_an_account_that_can_show_nothing_sends_nothing(
    engine: sa.Engine,
    tmp_path: Path,
    service: simulator.Simulator,
    port: int,
    changed: dict[str, Any],
    said: str,
) -> None:
    found, _ = shown(engine, tmp_path, email=account(service, port, "email", **changed))
    assert found["live.email"].startswith("FAIL: ")
    assert said in found["live.email"]
    assert service.effects() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "no JSON object"), ("{", "no JSON object"), ('{"provider": "resend"}', "sender: Field required")],
)
def test_a_file_that_names_no_account_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "live.json").write_text(text)
    with pytest.raises(RefusedError, match=said):
        live.read(tmp_path / "live.json", "email")
