"""The other end of the demonstration's campaigns: a mail server and a provider that fail on order, and who hears callbacks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_bytes
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel.delivery.providers.base import Provider
    from kernel.delivery.providers.simulator import Simulator

SEED = 7
# Shares of the calls. A mail server has fewer ways to fail; what it took before it fell silent nobody can ask it.
MAIL_FAULTS = {
    "rate_limited": 0.015,
    "refused": 0.01,
    "error_before": 0.005,
    "reset_before": 0.005,
    "reset_after": 0.01,
}
HTTP_FAULTS = {
    "rate_limited": 0.015, "refused": 0.005, "error_before": 0.01, "error_after": 0.02, "reset_before": 0.01,
    "reset_after": 0.02, "malformed": 0.02,
}  # fmt: skip
LATENCY_SECONDS = 0.04  # at most
CALLBACK_SECONDS = 1.5  # after the message
CALLBACKS_TWICE = 0.1  # of them


@dataclass(slots=True)
class Heard:
    """How many callbacks came, and how many events of them were new."""

    callbacks: int = 0
    events: int = 0
    lock: Lock = field(default_factory=Lock)

    def add(self, events: int) -> None:
        with self.lock:
            self.callbacks += 1
            self.events += events


@dataclass(frozen=True, slots=True)
class Servers:
    mail: Simulator
    http: Simulator
    heard: Heard

    def taken(self) -> int:
        """Messages that were taken so far."""
        return self.mail.record.count + self.http.record.count


@contextmanager
def serving(engine: sa.Engine, mail: Path, http: Path, account: tuple[UUID, UUID]) -> Iterator[Servers]:
    """The mail server and the provider keep what they take in their folders.

    `account` is that of the provider, as the ids of its tenant and its own: callbacks are received for it.
    """
    from kernel.delivery.providers import simulator
    from kernel.delivery.providers.callbacks import Callbacks
    from kernel.delivery.providers.faults import Faults

    secret = f"whsec_{b64encode(token_bytes(24)).decode()}"
    with _hearing(engine, account, secret) as (url, heard):
        callbacks = Callbacks(url, secret, CALLBACK_SECONDS, CALLBACKS_TWICE)
        failing = {
            "mail": Faults(SEED, MAIL_FAULTS, LATENCY_SECONDS),
            "http": Faults(SEED, HTTP_FAULTS, LATENCY_SECONDS),
        }
        with (
            simulator.serve(mail, faults=failing["mail"], mail_port=0) as by_mail,
            simulator.serve(http, faults=failing["http"], callbacks=callbacks) as by_http,
        ):
            yield Servers(by_mail, by_http, heard)


@contextmanager
def _hearing(engine: sa.Engine, account: tuple[UUID, UUID], secret: str) -> Iterator[tuple[str, Heard]]:
    heard = Heard()
    # Made at the first callback: before the servers run, the account does not know where they are.
    known = cache(lambda: _account(engine, account, secret))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.add(_received(engine, *known(), dict(self.headers), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/callbacks", heard
        finally:
            server.shutdown()
            thread.join()


def _account(engine: sa.Engine, account: tuple[UUID, UUID], secret: str) -> tuple[sa.Row[Any], Provider]:
    """The account, and its provider with a secret that only this process has: a worker that sends needs none."""
    from kernel import tenancy
    from kernel.delivery.providers.simulated import Simulated, SimulatedConfig
    from models.statements import statements

    with engine.begin() as connection:
        tenancy.service(connection, account[0])
        given = {"tenant_id": account[0], "account_id": account[1]}
        row = connection.execute(statements("delivery")["account"], given).one()
    return row, Simulated(SimulatedConfig.model_validate(row.config), callback_secret=secret)


def _received(
    engine: sa.Engine, row: sa.Row[Any], provider: Provider, headers: Mapping[str, str], body: bytes
) -> int:
    from kernel import tenancy
    from kernel.delivery import reconcile

    with engine.begin() as connection:
        tenancy.service(connection, row.tenant_id)
        return reconcile.receive(connection, row, provider, headers, body, at=datetime.now(UTC))
