"""What a certification of delivery leaves for others to count: every item, every effect, every event, row by row.

The rows are kept as lines of JSON, compressed inside the evidence. Addresses are kept as their SHA-256.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import sqlalchemy as sa

from kernel import tenancy
from kernel.errors import RefusedError
from models.delivery import ACCEPTED_STATUSES
from models.statements import statements

CHECK = "whole.ledgers"
_LARGEST = 1 << 26  # bytes of one ledger
_MOST_ROWS = 1 << 20
# The provider whose effects are kept beside the database; of real ones only their events are known.
_RECORDED = "memory"
# Of these nobody says whether there was an effect.
_UNCERTAIN = ("dispatching", "unknown", "abandoned")
Rows = Sequence[Mapping[str, Any]]


def of(connection: sa.Connection, effects: Rows) -> dict[str, Rows]:
    """items, effects and events of a database; `effects` are what the provider kept, each with an address."""
    kept = statements("delivery_certify")
    tenancy.service(connection)
    items = [dict(row._mapping) for row in connection.execute(kept["items"])]
    events = [dict(row._mapping) for row in connection.execute(kept["events"])]
    return {"items": _hidden(items), "effects": _hidden(effects), "events": _plain(events)}


def judged(rows: Mapping[str, Rows]) -> dict[str, int]:
    """What the rows say by themselves: people reached twice, items that stand as what they are not, stray effects."""
    items = [item for item in rows["items"] if item["provider"] == _RECORDED]
    item_of = {attempt["id"]: item for item in items for attempt in item["attempts"]}
    known = [item_of.get(effect["reference"]) for effect in rows["effects"]]
    reached = Counter(_person(item) for item in known if item is not None)
    had_effect = {item["id"] for item in known if item is not None}
    return {
        "twice": sum(count > 1 for count in reached.values()),
        "untrue": sum(
            (item["status"] in ACCEPTED_STATUSES) != (item["id"] in had_effect)
            for item in items
            if item["status"] not in _UNCERTAIN
        ),
        "of_nobody": known.count(None),
    }


def packed(rows: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    return {name: _packed(each) for name, each in rows.items()}


def verify(content: Mapping[str, Any]) -> None:
    """Counts the rows of evidence again. Raises RefusedError when they are not what they are said to be."""
    found = [check["found"] for check in content["checks"] if check["id"] == CHECK]
    try:
        rows = {name: _unpacked(name, each) for name, each in content["facts"]["ledgers"].items()}
        counted = judged(rows) if rows else None
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        EOFError,
        OSError,
        RecursionError,
        zlib.error,
        binascii.Error,
    ):
        raise RefusedError("the ledgers of the evidence cannot be read: certify again") from None
    if [counted] != found and (rows or found):
        raise RefusedError("the ledgers of the evidence do not give what its checks say: certify again")


def _person(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return item["root_run"], item["step"], item["address_sha256"]


def _hidden(rows: Rows) -> Rows:
    return _plain(
        {name: value for name, value in row.items() if name != "address"}
        | {"address_sha256": hashlib.sha256(row["address"].encode()).hexdigest()}
        for row in rows
    )


def _plain(rows: Iterable[Mapping[str, Any]]) -> Rows:
    return json.loads(json.dumps(list(rows), default=str))


def _packed(rows: Rows) -> dict[str, Any]:
    lines = "".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows).encode()
    return {
        "rows": len(rows),
        "sha256": hashlib.sha256(lines).hexdigest(),
        "gzip_base64": base64.b64encode(gzip.compress(lines, mtime=0)).decode(),
    }


def _unpacked(name: str, kept: Mapping[str, Any]) -> Rows:
    raw = base64.b64decode(kept["gzip_base64"], validate=True)
    with gzip.open(BytesIO(raw)) as file:
        lines = file.read(_LARGEST + 1)
    if len(lines) > _LARGEST:
        raise RefusedError(
            f"the ledger of {name} has more than {_LARGEST} bytes: nothing that was certified has"
        )
    # Before anything is read that somebody else may have written.
    rows = lines.count(b"\n")
    if rows > _MOST_ROWS or rows != kept["rows"] or hashlib.sha256(lines).hexdigest() != kept["sha256"]:
        raise RefusedError(f"the ledger of {name} is not the one that was written: certify again")
    return [json.loads(line) for line in BytesIO(lines)]
