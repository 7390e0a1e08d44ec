"""Providers to try delivery against: servers that speak as they do, fail as they do, and record every effect.

The path of an account is /{mode}/{account}, mode being none, keys, lookup or keys-lookup; behind it stand /emails and
/emails/batch (Resend), /2010-04-01/Accounts/{sid}/Messages.json (Twilio), /call (Vapi), /messages (a receiver of
webhooks), and with lookup GET /messages?reference=. As a mail server it listens on a port of its own, when asked to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kernel.delivery.providers import dialects, effects
from kernel.delivery.providers.adapter import utc_now
from kernel.delivery.providers.callbacks import Callbacks, Teller
from kernel.delivery.providers.faults import BEFORE, FAULTS, Faults
from kernel.delivery.providers.simulator_mail import MailServer

_LARGEST_REQUEST = 32 << 20
_SILENCE_SECONDS = 60


class Simulator:
    """Runs in threads of its own until it is closed. `script` holds faults to spend first, one a request.

    `spent` counts the faults so far. `mail_port` is None without a mail server.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        mail_port: int | None,
        faults: Faults,
        callbacks: Callbacks,
        clock: Callable[[], datetime],
    ) -> None:
        self.folder, self.faults, self.callbacks, self.clock = folder, faults, callbacks, clock
        self.script: deque[str] = deque()
        self.record = effects.Record(folder)
        self.is_closed = threading.Event()
        self.spent: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.teller = Teller(callbacks, clock)
        self._mail = None
        if mail_port is not None:
            self._mail = MailServer(self.record, mail_port, self.fault, clock, _SILENCE_SECONDS)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def mail_port(self) -> int | None:
        return self._mail.port if self._mail else None

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.is_closed.is_set():
            return
        self.is_closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._mail:
            self._mail.close()
        self.teller.close()
        self.record.close()

    def effects(self) -> list[effects.Effect]:
        return effects.read(self.folder)

    def fault(self, request: str) -> tuple[str | None, float]:
        with self._lock:
            if self.script:
                fault, latency = self.script.popleft(), 0.0
            else:
                self._seen[request] += 1
                fault, latency = self.faults.of(request, self._seen[request])
            if fault is not None:
                self.spent[fault] += 1
            return fault, latency


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # without a farewell, so that a reset is one

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hangs up is no error of ours
            super().handle_error(request, client_address)


def serve(
    folder: Path,
    port: int = 0,
    faults: Faults | None = None,
    callbacks: Callbacks | None = None,
    clock: Callable[[], datetime] = utc_now,
    mail_port: int | None = None,
) -> Simulator:
    """Serves on this machine; port 0 takes a free one. The folder keeps the effects, also those of an earlier process."""
    return Simulator(Path(folder), port, mail_port, faults or Faults(), callbacks or Callbacks(), clock)


def _handler(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENCE_SECONDS

        def do_GET(self) -> None:
            mode, account, path = _split(self.path)
            query = parse_qs(urlsplit(self.path).query)
            if "lookup" not in mode or path != "/messages":
                return self._answer(404, {"message": "there is nothing here"})
            fault, latency = simulator.fault(self.path)
            time.sleep(latency)
            if fault is not None:
                return self._fail(fault, [], None)
            found = simulator.record.find(account, query.get("reference", [""])[0])
            return self._answer(200, {"id": found.id}) if found else self._answer(404, {"message": "unknown"})

        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), _LARGEST_REQUEST))
            mode, account, path = _split(self.path)
            dialect = dialects.of(path)
            if dialect is None or mode - {"none", "keys", "lookup"}:
                return self._answer(404, {"message": "there is nothing here"})
            try:
                messages = dialect.read(body)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                return self._answer(400, {"name": "validation_error", "message": type(error).__name__})
            key = self.headers.get("Idempotency-Key") if "keys" in mode else None
            digest = hashlib.sha256(body).hexdigest()
            fault, latency = simulator.fault(f"{account}:{self.headers.get('Idempotency-Key') or digest}")
            time.sleep(latency)
            if fault in BEFORE:
                return self._fail(fault, [], dialect)
            at = simulator.clock().isoformat()
            taken = simulator.record.take(account, key, digest, messages, at)
            if taken is None:
                return self._answer(409, {"name": "invalid_idempotent_request", "message": "another body"})
            done, is_new = taken
            given = {name.lower(): value for name, value in self.headers.items()}
            for effect in done if is_new else ():
                url, secret = simulator.callbacks.url, simulator.callbacks.secret
                simulator.teller.later(partial(dialect.callback, effect, given, body, url, secret), effect.id)
            if fault is not None:
                return self._fail(fault, done, dialect)
            return self._answer(200, dialect.answer(done))

        def _fail(
            self, fault: str, done: Sequence[effects.Effect], dialect: dialects.Dialect | None
        ) -> None:  # fmt: skip
            if fault in _REFUSALS:
                status, headers = _REFUSALS[fault]
                self._answer(status, {"name": fault, "message": f"{fault} on order"}, headers)
            elif fault.startswith("reset"):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
            elif fault == "silent":
                simulator.is_closed.wait(_SILENCE_SECONDS)
            elif fault == "drip":
                self._drip()
            elif fault == "short" and len(done) > 1 and dialect is not None:
                self._answer(200, dialect.answer(done[:-1]))
            elif fault == "malformed":
                self._answer(200, b'{"id": "cut o')
            else:
                self._answer(200, {})

        def _drip(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            with suppress(OSError):
                while not simulator.is_closed.wait(0.05):
                    self.wfile.write(b" ")

        def _answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


_REFUSALS: dict[str, tuple[int, dict[str, str]]] = {
    "rate_limited": (429, {"Retry-After": "1"}),
    "refused": (422, {}),
    "unauthorized": (401, {}),
    "error_before": (500, {}),
    "error_after": (500, {}),
}


def _split(path: str) -> tuple[set[str], str, str]:
    """The words of the mode, the account, and what follows."""
    _, mode, account, *rest = [*urlsplit(path).path.split("/"), "", ""]
    return set(mode.split("-")), account, "/" + "/".join(rest[:-2] if len(rest) >= 2 else rest)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m kernel.delivery.providers.simulator",
        description="Providers to try delivery against; every effect is in FOLDER/effects.jsonl.",
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8025, help="0 takes a free one")
    parser.add_argument("--mail-port", type=int, help="be a mail server there too; 0 takes a free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME=SHARE", help=f"of {', '.join(FAULTS)}"
    )
    parser.add_argument("--latency", type=float, default=0, metavar="SECONDS", help="up to so many")
    parser.add_argument("--callback-url", default="")
    parser.add_argument("--callback-secret-env", default="", metavar="VARIABLE")
    parser.add_argument("--callback-delay", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--callback-duplicates", type=float, default=0, metavar="SHARE")
    given = parser.parse_args(arguments)
    try:
        rates = {name: float(share) for name, _, share in (each.partition("=") for each in given.fault)}
        faults = Faults(given.seed, rates, given.latency)
    except ValueError as error:
        parser.error(str(error))
    secret = os.environ.get(given.callback_secret_env, "")
    callbacks = Callbacks(given.callback_url, secret, given.callback_delay, given.callback_duplicates)
    with serve(given.folder, given.port, faults, callbacks, mail_port=given.mail_port) as simulator:
        mail = f"  mail on 127.0.0.1:{simulator.mail_port}" if simulator.mail_port else ""
        print(f"{simulator.url}{mail}  effects in {given.folder / effects.FILE}", flush=True)
        with suppress(KeyboardInterrupt):
            simulator.is_closed.wait()


if __name__ == "__main__":
    main()
