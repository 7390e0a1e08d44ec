"""A provider that keeps every effect in a file before it answers, for processes that are killed at any moment.

What an address gets is written in it: `no-` is refused for good, `later-` is refused until `open_up`, `lost-` has its
effect and no answer. It is no adapter of a service; those belong in `kernel.delivery.providers`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from kernel.delivery.providers.base import (
    BadCallback,
    Capabilities,
    Event,
    Message,
    Outcome,
    rejected,
    unknown,
)

Mode = Literal["keys", "lookup", "none"]
MODES: tuple[Mode, ...] = ("keys", "lookup", "none")
_BUSY = rejected("busy", "not now", retryable=True)
_TABLES = """
create table if not exists calls (account text, key text, primary key (account, key));
create table if not exists effects (account text, key text, reference text, address text, worker text);
create index if not exists effects_reference on effects (account, reference);
create table if not exists opened (account text primary key);
"""


class Ledger:
    """The effects of all accounts, in one file that outlives who wrote it. Any number of processes at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            file.executescript(_TABLES)

    def effects(self, account: str) -> Counter[str]:
        """How often each address was reached through the account."""
        with self._open() as file:
            rows = file.execute(
                "select address, count(*) from effects where account = ? group by 1", (account,)
            )
            return Counter(dict(rows.fetchall()))

    def references(self, account: str) -> list[str]:
        """The references of all effects through the account, in order."""
        with self._open() as file:
            rows = file.execute("select reference from effects where account = ? order by rowid", (account,))
            return [row[0] for row in rows]

    def workers(self, account: str) -> Counter[str]:
        """How many effects each worker had through the account."""
        with self._open() as file:
            rows = file.execute(
                "select worker, count(*) from effects where account = ? group by 1", (account,)
            )
            return Counter(dict(rows.fetchall()))

    def rows(self) -> list[dict[str, str]]:
        """Every effect, in the order in which they came: account, key, reference, address, worker."""
        with self._open() as file:
            file.row_factory = sqlite3.Row
            query = "select account, key, reference, address, worker from effects order by rowid"
            return [dict(row) for row in file.execute(query)]

    def open_up(self, account: str) -> None:
        """From now on `later-` addresses are accepted."""
        with self._open() as file:
            file.execute("insert or ignore into opened values (?)", (account,))

    def is_open(self, account: str) -> bool:
        with self._open() as file:
            return file.execute("select 1 from opened where account = ?", (account,)).fetchone() is not None

    def take(self, account: str, key: str, is_keyed: bool, messages: Sequence[Message], worker: str) -> bool:
        """Keeps the effects of a call, on disk when it returns; False, and none, for a key that was seen before."""
        with self._open() as file:
            file.execute("begin immediate")
            if (
                is_keyed
                and not file.execute("insert or ignore into calls values (?, ?)", (account, key)).rowcount
            ):
                file.execute("rollback")
                return False
            rows = [(account, key, each.reference, each.address, worker) for each in messages]
            file.executemany("insert into effects values (?, ?, ?, ?, ?)", rows)
            file.execute("commit")
        return True

    def knows(self, account: str, reference: str) -> bool:
        with self._open() as file:
            query = "select 1 from effects where account = ? and reference = ?"
            return file.execute(query, (account, reference)).fetchone() is not None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        file = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            # Processes die here, the machine does not: what is handed to the system stays.
            file.execute("pragma synchronous = off")
            yield file
        finally:
            file.close()


class Recorder:
    """An account with this provider. `at` is called with 'effect' when it stands and nothing was answered yet."""

    def __init__(
        self, ledger: Ledger, account: str, mode: Mode, *, worker: str, timeout: timedelta, batch: int = 1,
        at: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.capabilities = Capabilities(
            key_window=timedelta(days=1) if mode == "keys" else None, lookup=mode == "lookup", batch=batch, wave=40,
            timeout=timeout, concurrency=1,
        )  # fmt: skip
        self._ledger, self._account, self._worker, self._at = ledger, account, worker, at

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        refused = {each.reference: why for each in messages if (why := self._refusal(each.address))}
        taken = [each for each in messages if each.reference not in refused]
        if taken:
            is_keyed = self.capabilities.key_window is not None
            if not self._ledger.take(self._account, key, is_keyed, taken, self._worker):
                # The first answer again, also to whom it refused then and would take now.
                refused |= {
                    each.reference: _BUSY
                    for each in taken
                    if not self._ledger.knows(self._account, each.reference)
                }
            self._at("effect")
        return [refused.get(each.reference) or self._answer(each) for each in messages]

    def lookup(self, message: Message, key: str) -> Outcome | None:
        found = self._ledger.knows(self._account, message.reference)
        return Outcome("accepted", message_id=f"recorded-{message.reference}") if found else None

    def events(self, headers: Mapping[str, str], body: bytes, now: datetime) -> Sequence[Event]:
        """A callback is a list of events as they are, signed with the word 'recorder'."""
        if headers.get("signature") != "recorder":
            raise BadCallback("the callback is not the recorder's")
        return [Event(**each, occurred_at=now) for each in json.loads(body)]

    def close(self) -> None: ...

    def _refusal(self, address: str) -> Outcome | None:
        if address.startswith("no-"):
            return rejected("refused", "the address does not exist")
        if address.startswith("later-") and not self._ledger.is_open(self._account):
            return _BUSY
        return None

    def _answer(self, message: Message) -> Outcome:
        if message.address.startswith("lost-"):
            return unknown("timeout", "no answer in time")
        return Outcome("accepted", message_id=f"recorded-{message.reference}")
