"""The simulator as a mail server: it takes mail, refuses and fails as ordered, and records every message it took."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from datetime import datetime
from email import message_from_bytes
from typing import Any

from aiosmtpd.smtp import SMTP

from kernel.delivery.providers.effects import Record

ACCOUNT = "mail"  # of its effects
_TO_RECIPIENT = {"rate_limited": "450 4.2.1 later on order", "refused": "550 5.1.1 refused on order"}


class MailServer:
    """Runs in a thread of its own until it is closed. `fault` gives the fault and the latency of a request.

    Of the faults it knows `rate_limited` and `refused` by the recipient, and `error_before`, `reset_before`,
    `reset_after`, `silent` and `malformed` by the text; with any other one it does its work.
    """

    def __init__(
        self,
        record: Record,
        port: int,
        fault: Callable[[str], tuple[str | None, float]],
        clock: Callable[[], datetime],
        silence_seconds: float,
    ) -> None:
        self._record, self._fault, self._clock, self._silence = record, fault, clock, silence_seconds
        self._loop = asyncio.new_event_loop()
        listen = self._loop.create_server(self._session, "127.0.0.1", port)
        self._server = self._loop.run_until_complete(listen)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.run_until_complete(_leave_sessions())
        self._loop.close()

    def _session(self) -> SMTP:
        return SMTP(self, hostname="localhost", loop=self._loop)

    # What aiosmtpd calls, by these names.

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        envelope.fault, envelope.latency = self._fault(f"{ACCOUNT}:{address}")
        if envelope.fault in _TO_RECIPIENT:
            return _TO_RECIPIENT[envelope.fault]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, _session: Any, envelope: Any) -> str:
        await asyncio.sleep(envelope.latency)
        if envelope.fault == "error_before":
            return "451 4.3.0 error on order"
        if envelope.fault != "reset_before":
            digest = hashlib.sha256(envelope.content).hexdigest()
            messages = [(_reference(envelope.content), address) for address in envelope.rcpt_tos]
            self._record.take(ACCOUNT, None, digest, messages, self._clock().isoformat())
        if envelope.fault in ("reset_before", "reset_after") and server.transport is not None:
            server.transport.abort()
        if envelope.fault == "silent":
            await asyncio.sleep(self._silence)
        return "so be it" if envelope.fault == "malformed" else "250 2.0.0 taken"


async def _leave_sessions() -> None:
    open_ones = asyncio.all_tasks() - {asyncio.current_task()}
    for task in open_ones:
        task.cancel()
    await asyncio.gather(*open_ones, return_exceptions=True)


def _reference(content: bytes) -> str:
    """What stands before the at sign of the message id; empty without one."""
    found = str(message_from_bytes(content)["Message-ID"] or "")
    return found.strip("<> ").partition("@")[0]
