"""Takes a provider's callbacks over HTTP while a demonstration or a certification sends.

In production they come through whatever receives requests there, which hands them to `reconcile.receive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import reconcile
from kernel.delivery.providers.base import BadCallback, Provider
from kernel.errors import RefusedError
from models.statements import statements

_LARGEST = 1 << 20  # bytes of a callback
_PATIENCE = 10  # seconds for one to arrive


@dataclass(slots=True)
class Heard:
    """Callbacks that were taken, how many events of them were new, and those refused since the provider did not sign them."""

    callbacks: int = 0
    events: int = 0
    refused: int = 0
    lock: Lock = field(default_factory=Lock)

    def take(self, events: int) -> None:
        with self.lock:
            self.callbacks += 1
            self.events += events

    def refuse(self) -> None:
        with self.lock:
            self.refused += 1


@contextmanager
def listening(
    engine: sa.Engine,
    tenant_id: UUID,
    account_id: UUID,
    provider: Callable[[sa.Row[Any]], Provider],
    port: int = 0,
) -> Iterator[tuple[str, Heard]]:
    """The address that listens for callbacks of an account, and what was heard there.

    `provider` is made of the account's row at every callback: it may not be known yet when this begins. Raises
    RefusedError for a port that cannot be listened on.
    """
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(min(size, _LARGEST))
            try:
                heard.take(_received(engine, tenant_id, account_id, provider, self._named(), body))
            except BadCallback:
                heard.refuse()
                self.send_response(401)
            else:
                self.send_response(204)
            self.end_headers()

        def _named(self) -> dict[str, str]:
            return {**self.headers, ":path": self.path}

        def log_message(self, *_: object) -> None: ...

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise RefusedError(
            f"port {port} cannot be listened on ({error.strerror}): name another one"
        ) from None
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/callbacks", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _received(
    engine: sa.Engine,
    tenant_id: UUID,
    account_id: UUID,
    provider: Callable[[sa.Row[Any]], Provider],
    headers: dict[str, str],
    body: bytes,
) -> int:
    given = {"tenant_id": tenant_id, "account_id": account_id}
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        account = connection.execute(statements("delivery")["account"], given).one()
        return reconcile.receive(connection, account, provider(account), headers, body, at=datetime.now(UTC))
