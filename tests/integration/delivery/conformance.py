"""What every adapter of a provider holds to, whatever it speaks. An adapter is listed with a way to start its server;
the checks are functions, so that one which must not pass can be shown not to.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from kernel.delivery.providers import simulator
from kernel.delivery.providers.base import Message, Outcome, Provider
from kernel.delivery.providers.registry import PROVIDERS

SECRET = "s3cret-of-the-account"
TIMEOUT = 0.8  # of one call, in seconds

HTTP_FAULTS = {
    "rate_limited": ("rejected", True),
    "refused": ("rejected", False),
    "unauthorized": ("rejected", False),
    "error_before": ("unknown", False),
    "error_after": ("unknown", False),
    "reset_before": ("unknown", False),
    "reset_after": ("unknown", False),
    "silent": ("unknown", False),
    "drip": ("unknown", False),
    "malformed": ("unknown", False),
    "no_id": ("unknown", False),
    "gone": ("rejected", True),
}
SMTP_FAULTS = {
    "recipient refused": ("rejected", False),
    "recipient deferred": ("rejected", True),
    "text refused": ("rejected", False),
    "text deferred": ("rejected", True),
    "reset before text": ("rejected", True),
    "reset after text": ("unknown", False),
    "silent after text": ("unknown", False),
    "nonsense after text": ("unknown", False),
    "drip": ("rejected", True),
    "gone": ("rejected", True),
}


@dataclass
class Bench:
    """An adapter before its server. `effects` counts what really happened, by reference; `fault` spends one on the
    next call; `faults` says what each means: the state, and whether another attempt may follow.
    """

    provider: Provider
    effects: Callable[[], Counter[str]]
    fault: Callable[[str], None] = lambda name: None
    faults: dict[str, tuple[str, bool]] = field(default_factory=dict)


def message(reference: str, channel: str) -> Message:
    address = (
        f"{reference}@example.org" if channel == "email" else f"+1555{crc32(reference.encode()) % 10**7:07}"
    )
    sender = "Acme <news@acme.example>" if channel == "email" else "+15550000000"
    return Message(reference, channel, sender, address, "Hello", "How are you?")


def channel_of(provider: Provider) -> str:
    return next(kind.channels[0] for kind in PROVIDERS.values() if isinstance(provider, kind))


def send(bench: Bench, *references: str, key: str = "key") -> list[Outcome]:
    channel = channel_of(bench.provider)
    return list(bench.provider.send([message(each, channel) for each in references], key))


# Checks ----------------------------------------------------------------------------------------------------------


def accepted_has_an_id(bench: Bench) -> None:
    outcomes = [send(bench, f"r{number}", key=f"key {number}")[0] for number in range(3)]
    assert [outcome.state for outcome in outcomes] == ["accepted"] * 3
    assert len({outcome.message_id for outcome in outcomes}) == 3
    assert all(outcome.message_id for outcome in outcomes)
    assert bench.effects() == Counter(["r0", "r1", "r2"])


def faults_are_told_as_what_they_are(bench: Bench) -> None:
    for name, meaning in bench.faults.items():
        if name == "gone":
            continue  # nothing comes after it
        bench.fault(name)
        reference = name.replace(" ", "-")
        (outcome,) = send(bench, reference, key=name)
        assert (outcome.state, outcome.is_retryable) == meaning, (name, outcome)
        assert outcome.error, name
        if meaning[0] == "rejected":
            assert reference not in bench.effects(), name
        (after,) = send(bench, f"after-{reference}", key=f"after {name}")
        assert after.state == "accepted", f"after {name}: {after}"


def a_server_that_is_gone_was_sent_nothing(bench: Bench) -> None:
    if "gone" not in bench.faults:
        return
    bench.fault("gone")
    (outcome,) = send(bench, "r1")
    assert (outcome.state, outcome.is_retryable, outcome.error_code) == ("rejected", True, "not_sent")


def a_key_has_one_effect(bench: Bench) -> None:
    if bench.provider.capabilities.key_window is None:
        return
    batch = ["r1", "r2"] if bench.provider.capabilities.batch > 1 else ["r1"]
    first, second = send(bench, *batch, key="one key"), send(bench, *batch, key="one key")
    assert [outcome.message_id for outcome in first] == [outcome.message_id for outcome in second]
    assert bench.effects() == Counter(batch)
    if "reset_after" in bench.faults:
        bench.fault("reset_after")
        assert send(bench, "r3", key="other key")[0].state == "unknown"
        assert send(bench, "r3", key="other key")[0].state == "accepted"
        assert bench.effects()["r3"] == 1


def a_batch_is_told_by_place(bench: Bench) -> None:
    if bench.provider.capabilities.batch == 1:
        return
    channel = channel_of(bench.provider)
    bad = replace(message("bad", channel), subject="two\r\nlines")
    given = [message("r1", channel), bad, message("r2", channel)]
    outcomes = bench.provider.send(given, "batch")
    assert [outcome.state for outcome in outcomes] == ["accepted", "rejected", "accepted"]
    assert bench.effects() == Counter(["r1", "r2"])
    if bench.faults:
        bench.fault("short")
        assert [outcome.state for outcome in send(bench, "r3", "r4", "r5", key="short")] == ["unknown"] * 3


def the_deadline_holds(bench: Bench) -> None:
    for name in ("drip", "silent", "silent after text"):
        if name in bench.faults:
            bench.fault(name)
            started = time.monotonic()
            send(bench, name.replace(" ", "-"), key=name)
            assert time.monotonic() - started < TIMEOUT + 1, name


def no_secret_is_told(bench: Bench) -> None:
    told = [repr(bench.provider), str(vars(type(bench.provider)))]
    for name in [None, *bench.faults]:
        if name in ("drip", "silent", "silent after text"):
            continue  # they say nothing, and take their time for it
        if name:
            bench.fault(name)
        told += [repr(outcome) for outcome in send(bench, "r1", key=str(name))]
    assert SECRET not in "".join(told)


def what_cannot_be_sent_is_rejected_and_raises_nothing(bench: Bench) -> None:
    good = message("r1", channel_of(bench.provider))
    for bad in (
        replace(good, subject="a\r\nBcc: eve@example.org"),
        replace(good, address=good.address + "\nBcc: eve@example.org"),
        replace(good, sender="a@example.org\r\nBcc: eve@example.org"),
        replace(good, headers={"X-A\r\nBcc": "eve@example.org"}),
        replace(good, headers={"X-A": "1\u2028Bcc: eve@example.org"}),
        replace(good, body="half \ud800"),
        replace(good, body="nul \0"),
        replace(good, reference="r 1"),
    ):
        (outcome,) = bench.provider.send([bad], "key")
        assert (outcome.state, outcome.is_retryable, outcome.error_code) == ("rejected", False, "content"), (
            bad
        )
    assert not bench.effects()


def calls_may_come_from_several_threads(bench: Bench) -> None:
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda number: send(bench, f"r{number}", key=f"key {number}")[0], range(24)))
    assert {outcome.state for outcome in outcomes} == {"accepted"}
    assert len({outcome.message_id for outcome in outcomes}) == 24
    assert bench.effects() == Counter(f"r{number}" for number in range(24))


CHECKS = (
    accepted_has_an_id,
    faults_are_told_as_what_they_are,
    a_server_that_is_gone_was_sent_nothing,
    a_key_has_one_effect,
    a_batch_is_told_by_place,
    the_deadline_holds,
    no_secret_is_told,
    what_cannot_be_sent_is_rejected_and_raises_nothing,
    calls_may_come_from_several_threads,
)


# Adapters and their servers --------------------------------------------------------------------------------------


def made(name: str, config: dict[str, Any]) -> Provider:
    kind = PROVIDERS[name]
    config = {"timeout_seconds": TIMEOUT} | config
    return kind(kind.Config.model_validate(config), secret=SECRET)


@contextmanager
def _simulated(name: str, folder: Path, config: Callable[[str], dict[str, Any]]) -> Iterator[Bench]:
    with simulator.serve(folder) as server:
        provider = made(name, config(server.url))

        def fault(wanted: str) -> None:
            if wanted == "gone":
                server.close()
            else:
                server.script.append(wanted)

        yield Bench(
            provider, lambda: Counter(effect.reference for effect in server.effects()), fault, HTTP_FAULTS
        )
        provider.close()


def resend(folder: Path) -> Any:
    return _simulated("resend", folder, lambda url: {"base_url": f"{url}/keys/a"})


def simulated(folder: Path) -> Any:
    return _simulated("simulator", folder, lambda url: {"base_url": url, "mode": "keys-lookup"})


def twilio(folder: Path) -> Any:
    return _simulated(
        "twilio",
        folder,
        lambda url: {
            "base_url": f"{url}/none/a",
            "account_sid": "AC0123",
            "callback_url": "https://x.example/c",
        },
    )


def vapi(folder: Path) -> Any:
    config = {"assistant_id": "assistant", "phone_number_id": "number"}
    return _simulated("vapi", folder, lambda url: config | {"base_url": f"{url}/none/a"})


def webhook(folder: Path) -> Any:
    return _simulated("webhook", folder, lambda url: {"url": f"{url}/keys/a/messages", "honours_keys": True})


@contextmanager
def file(folder: Path) -> Iterator[Bench]:
    def effects() -> Counter[str]:
        lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        return Counter(json.loads(line)["reference"] for line in lines)

    yield Bench(made("file", {"folder": str(folder)}), effects)


@contextmanager
def memory(_folder: Path) -> Iterator[Bench]:
    provider: Any = made("memory", {})
    yield Bench(provider, lambda: Counter(given.reference for _, given in provider.effects))


def _anybody(*_: Any) -> AuthResult:
    return AuthResult(success=True)


class MailServer(Controller):
    """A real one on a free port, with log-in. `faults` are spent one a message; `kept` are the texts it took."""

    def __init__(self, **given: Any) -> None:
        given = {"authenticator": _anybody, "auth_require_tls": False} | given
        super().__init__(self, hostname="127.0.0.1", port=0, **given)
        self.faults: list[str] = []
        self.kept: list[Any] = []
        self.connections = 0

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    def factory(self) -> Any:
        self.connections += 1
        return super().factory()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, _options: Any) -> str:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "recipient refused":
            return "550 5.1.1 no such person"
        if fault == "recipient deferred":
            return "450 4.2.1 later"
        if fault == "reset before text":
            server.transport.abort()
        if fault == "drip":
            for _ in range(40):
                server.transport.write(b"2")
                await asyncio.sleep(0.05)
        envelope.fault = fault
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        fault = envelope.fault
        if fault in ("text refused", "text deferred"):
            return "554 5.7.1 not this" if fault == "text refused" else "451 4.3.0 later"
        self.kept.append(envelope)
        if fault == "reset after text":
            server.transport.abort()
        if fault == "silent after text":
            await asyncio.sleep(2)
        if fault == "nonsense after text":
            server.transport.write(b"so be it\r\n")
        return "250 queued"


@contextmanager
def smtp(_folder: Path, **given: Any) -> Iterator[Bench]:
    server = MailServer(**given)
    server.start()
    provider = made("smtp", {"host": "127.0.0.1", "port": server.port, "tls": "none"})

    def references() -> Counter[str]:
        found = [line for kept in server.kept for line in kept.content.splitlines()]
        return Counter(
            line.split(b"<")[1].split(b"@")[0].decode() for line in found if line.startswith(b"Message-ID:")
        )

    is_gone = False

    def fault(wanted: str) -> None:
        nonlocal is_gone
        if wanted == "gone":
            is_gone = True
            server.stop()
        else:
            server.faults.append(wanted)

    yield Bench(provider, references, fault, SMTP_FAULTS)
    provider.close()
    if not is_gone:
        server.stop()


ADAPTERS: dict[str, Callable[[Path], Any]] = {
    "smtp": smtp,
    "resend": resend,
    "twilio": twilio,
    "vapi": vapi,
    "webhook": webhook,
    "file": file,
    "simulator": simulated,
    "memory": memory,
}
