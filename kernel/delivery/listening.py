"""Takes a provider's callbacks over HTTP while a demonstration or a certification sends.

In production they come through whatever receives requests there, which hands them to `callbacks.receive`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, BinaryIO
from uuid import UUID

import sqlalchemy as sa

from kernel import tenancy
from kernel.delivery import callbacks
from kernel.delivery.providers.base import BadCallback, Provider
from kernel.errors import RefusedError
from models.statements import statements

_LARGEST = 1 << 20  # bytes of a callback
_PATIENCE = 10  # seconds for one to arrive
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Heard:
    """Callbacks that were taken, how many events of them were new, those refused since the provider did not sign them, and
    those that could not be taken for another reason: they were answered with it, and a provider sends them again.
    """

    callbacks: int = 0
    events: int = 0
    refused: int = 0
    failed: int = 0
    lock: Lock = field(default_factory=Lock)

    def take(self, events: int) -> None:
        with self.lock:
            self.callbacks += 1
            self.events += events

    def refuse(self) -> None:
        with self.lock:
            self.refused += 1

    def fail(self) -> None:
        with self.lock:
            self.failed += 1


class _Unreadable(Exception):
    """A request that is no callback, with the status it is answered with."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Server(ThreadingHTTPServer):
    """What it has begun with is answered before it is closed; whoever has not said all by then is not waited for."""

    daemon_threads = False

    def __init__(self, *given: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.warning("the connection of a callback broke off", exc_info=True)


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
            with suppress(ConnectionError):  # Whoever left is answered nothing.
                self.send_response(self._taken())
                self.end_headers()

        def _taken(self) -> int:
            """The status it is answered with."""
            try:
                body = _body(self.headers.get("Content-Length"), self.rfile)
                heard.take(_received(engine, tenant_id, account_id, provider, self._named(), body))
            except BadCallback:
                heard.refuse()
                return 401
            except _Unreadable as error:
                heard.fail()
                _log.warning("a request that is no callback: %s", error)
                return error.status
            except (RefusedError, sa.exc.SQLAlchemyError) as error:
                heard.fail()
                told = str(getattr(error, "orig", None) or error).splitlines()
                _log.warning("a callback could not be taken: %s", next(iter(told), type(error).__name__))
                return 503
            except Exception:
                heard.fail()
                _log.exception("a callback could not be taken")
                return 500
            return 204

        def _named(self) -> dict[str, str]:
            return {**self.headers, ":path": self.path}

        def log_message(self, *_: object) -> None: ...

    try:
        server = _Server(("127.0.0.1", port), Handler)
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


def _body(length: str | None, file: BinaryIO) -> bytes:
    """Of the length that was said; neither more nor less is what the provider signed."""
    if length is None:
        raise _Unreadable(411, "it has no Content-Length")
    if not (length.isascii() and length.isdigit()):
        raise _Unreadable(400, f"its Content-Length is {length[:20]!r}")
    # Of a number with thousands of digits Python makes none.
    if len(length) > len(str(_LARGEST)) or int(length) > _LARGEST:
        raise _Unreadable(413, f"it is longer than {_LARGEST} bytes")
    try:
        body = file.read(int(length))
    except TimeoutError:
        raise _Unreadable(408, f"nothing came for {_PATIENCE} s") from None
    except ConnectionError:
        body = b""
    if len(body) < int(length):
        raise _Unreadable(400, "it breaks off")
    return body


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
        return callbacks.receive(connection, account, provider(account), headers, body, at=datetime.now(UTC))
