"""Checks a dispute pack with nothing but Python 3.10 or newer: python verify.py dispute-SITE-MONTH.csv

Here stand the rules a stranger must be able to repeat: how lines are hashed, how a month is rated, what a snapshot is
bound to. This file imports nothing of the project, which imports these rules from here. How a pack is written belongs
in `canonical` and `manifest`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from hashlib import sha256
from itertools import pairwise, zip_longest
from operator import lt
from pathlib import Path
from typing import Any

FORMAT = "usage-dispute/1"
COLUMNS = (
    "created_at", "idempotency_key", "idempotency_version", "billable", "billing_state", "billing_reason",
    "event_category", "event_action", "event_label", "occurred_at", "plan", "year_month",
)  # fmt: skip
HEADER = ",".join(COLUMNS).encode()
STATES = (b"ACCEPTED", b"OVERAGE", b"DEGRADED_CAPTURE", b"RECOVERED", b"REJECTED_QUOTA")
_PIECE_BYTES = 1 << 16  # of the file at a time: what is made of it stays in the processor's cache
_LINE_BYTES = 1 << 24  # at most: texts come in requests, and each letter may be escaped by six
_RANGES = 1024  # of hashes in a manifest, at most: they tell where a file was changed


class PackError(Exception):
    """What is wrong with a pack, a plan or an adjustment, in one sentence."""


# Hashes of lines: the tree of RFC 6962, section 2.1.


def leaf(line: bytes) -> bytes:
    """The hash of one line, which is given without its line end."""
    return sha256(b"\0" + line).digest()


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _pairs(nodes: Sequence[bytes]) -> list[bytes]:
    return [
        sha256(b"\1" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=False)
    ]


class Tree:
    """The hashes of any number of leaves, in the memory of one branch.

    One leaf can be watched, before it is added: of it the audit path is known in the end.
    """

    def __init__(self) -> None:
        self.size = 0
        self.watched: int | None = None
        self._waiting: list[bytes | None] = []  # by level: the node whose right sibling is still to come
        self._beside: dict[int, bytes] = {}  # by level: what stands beside the branch of the watched leaf
        self._range_level = 0
        self._ranges: list[bytes] = []

    def add(self, leaves: Sequence[bytes]) -> None:
        """Adds hashes of lines, in the order of the lines."""
        before, self.size = self.size, self.size + len(leaves)
        nodes, level = list(leaves), 0
        while nodes:
            first = before >> level
            if level == self._range_level:
                self._ranges += nodes
            if level == len(self._waiting):
                self._waiting.append(None)
            if (waiting := self._waiting[level]) is not None:
                nodes.insert(0, waiting)
                first -= 1
            self._look(level, first, nodes)
            self._waiting[level] = nodes.pop() if len(nodes) % 2 else None
            nodes = _pairs(nodes)
            level += 1
        while len(self._ranges) > _RANGES:
            self._ranges = _pairs(self._ranges)
            self._range_level += 1

    def root(self) -> bytes:
        return self._edge(len(self._waiting)) or sha256(b"").digest()

    def path(self) -> list[bytes]:
        """The hashes with which the watched leaf comes to the root, from the leaf upwards."""
        self._edge(len(self._waiting))
        return [self._beside[level] for level in sorted(self._beside)]

    def ranges(self) -> tuple[int, list[str]]:
        """How many lines each of at most 1,024 hashes stands for, and the hashes; the last may stand for fewer."""
        edge = self._edge(self._range_level)
        return 1 << self._range_level, [each.hex() for each in (*self._ranges, *([edge] if edge else []))]

    def _edge(self, levels: int) -> bytes | None:
        """What the nodes that wait below a level come to: the incomplete right edge of the tree."""
        edge: bytes | None = None
        for level, waiting in enumerate(self._waiting[:levels]):
            if edge is not None:
                self._look(level, self.size >> level, [edge])
            if waiting is not None:
                self._look(level, (self.size >> level) - 1, [waiting])
                edge = waiting if edge is None else node(waiting, edge)
        return edge

    def _look(self, level: int, first: int, nodes: Sequence[bytes]) -> None:
        if self.watched is not None and 0 <= (at := (self.watched >> level ^ 1) - first) < len(nodes):
            self._beside[level] = nodes[at]


def sides(index: int, size: int) -> Iterator[str]:
    """Where what stands beside the branch of a leaf stands, from the leaf upwards: 'left' or 'right'."""
    last = size - 1
    while last:
        # The last node of a level that has no right sibling goes up as it is.
        if index % 2 or index < last:
            yield "left" if index % 2 else "right"
        index, last = index // 2, last // 2


def root_of(line: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a line, the `index`th of `size` from 0, comes to by its audit path; None when it cannot."""
    if not 0 <= index < size or len(where := list(sides(index, size))) != len(path):
        return None
    result = leaf(line)
    for side, beside in zip(where, path, strict=True):
        result = node(beside, result) if side == "left" else node(result, beside)
    return result


# Rating: what a month of a site costs.

# ISO 4217: the digits after the point; all other currencies have two.
_MINOR_UNITS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF",
         "XOF", "XPF"), 0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}  # fmt: skip
_EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)  # more digits than any count times any price has


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan says about money. Prices are of 1,000 events; tiers are (last event, price), the last may be open."""

    currency: str
    base_price: Decimal
    monthly_limit: int
    tiers: tuple[tuple[int | None, Decimal], ...]
    overage_price_per_1k: Decimal | None
    minimum: Decimal


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A correction of a month that is closed: its plan, the events it was rated by, and how many more or fewer it was."""

    of_year_month: str
    quantity: int
    units_before: int
    plan: Plan
    told: str


@dataclass(frozen=True, slots=True)
class Line:
    kind: str
    of_year_month: str
    quantity: int
    price_per_1k: Decimal | None
    amount: Decimal
    told: str


@dataclass(frozen=True, slots=True)
class Lines:
    """What is invoiced of a site, line by line: the total is their sum and is not rounded again."""

    currency: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        return sum((line.amount for line in self.lines), rounded(Decimal(0), self.currency))


def rounded(amount: Decimal, currency: str) -> Decimal:
    """To the smallest unit of the currency, a half to the even one. Each line is rounded here, once."""
    return amount.quantize(Decimal(1).scaleb(-_MINOR_UNITS.get(currency, 2)), context=_EXACT)


def rate(plan: Plan, units: int, month: str, adjustments: Iterable[Adjustment] = ()) -> Lines:
    """The lines of a month with `units` billable events: its own, then those of its adjustments.

    Each event is priced by its number in the month: up to the limit it is included, then the first tier that reaches it
    prices it, and beyond the tiers the price of overage; without one it costs nothing. Raises PackError.
    """
    lines = _of_month(plan, units, month)
    for each in adjustments:
        after = each.units_before + each.quantity
        if each.plan.currency != plan.currency:
            raise PackError(
                f"an adjustment of {each.of_year_month} is in {each.plan.currency}, and the month in {plan.currency}:"
                " it belongs on an invoice of its own currency"
            )
        if min(after, each.units_before) < 0:
            raise PackError(
                f"an adjustment of {each.of_year_month} would leave {after} events: there are none below 0"
            )
        rated = [_of_month(each.plan, count, each.of_year_month) for count in (each.units_before, after)]
        was, becomes = (Lines(plan.currency, tuple(month_lines)).total for month_lines in rated)
        lines.append(Line("adjustment", each.of_year_month, each.quantity, None, becomes - was, each.told))
    return Lines(plan.currency, tuple(lines))


def _of_month(plan: Plan, units: int, month: str) -> list[Line]:
    def line(kind: str, quantity: int, amount: Decimal, told: str, price: Decimal | None = None) -> Line:
        return Line(kind, month, quantity, price, rounded(amount, plan.currency), told)

    lines = [line("base", 1, plan.base_price, "base price")]
    counted = min(units, plan.monthly_limit)
    if counted:
        lines.append(line("included", counted, Decimal(0), f"{counted:,} events included"))
    tiers = [("tier", *tier) for tier in plan.tiers]
    for kind, up_to, price in (*tiers, ("overage", None, plan.overage_price_per_1k)):
        last = units if up_to is None else min(units, up_to)
        if last <= counted:
            continue
        amount = _EXACT.multiply(price or Decimal(0), Decimal(last - counted)).scaleb(-3, _EXACT)
        at = "at no charge" if price is None else f"at {price:f} per 1,000"
        lines.append(line(kind, last - counted, amount, f"events {counted + 1:,} to {last:,} {at}", price))
        counted = last
    missing = rounded(plan.minimum, plan.currency) - sum(each.amount for each in lines)
    if missing > 0:
        lines.append(line("minimum", 1, missing, f"up to the minimum of {plan.minimum:f}"))
    return lines


# What stands in a manifest. A text is a pattern, a range holds whole numbers, a tuple lists what may stand there.

_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_HASH = r"[0-9a-f]{64}"
_MONTH = r"[0-9]{4}-(0[1-9]|1[0-2])"
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
_PRICE = r"[0-9]{1,18}(\.[0-9]{1,12})?"
_AMOUNT = r"-?[0-9]{1,40}(\.[0-9]{1,3})?"
_TEXT = r"(?s:.*)"
_COUNT = range(1 << 63)
_SIGNED = range(-(1 << 63), 1 << 63)

PLAN = {
    "id": (_ID, None),  # none of the plan that holds where none was made
    "plan_tier": _TEXT,
    "monthly_limit": _COUNT,
    "soft_limit_enabled": bool,
    "hard_cap_multiplier": _PRICE,
    "overage_price_per_1k": (_PRICE, None),
    "base_price": _PRICE,
    "tiers": [{"up_to": (_COUNT, None), "per_1k": _PRICE}],
    "minimum": _PRICE,
    "currency": r"[A-Z]{3}",
    "valid_from": (_INSTANT, None),
    "billing_rule": _TEXT,
}
SNAPSHOT = {
    "tenant_id": _ID,
    "site_id": _ID,
    "year_month": _MONTH,
    "event_count": _COUNT,
    "overage_count": _COUNT,
    "snapshot_hash": _HASH,
    "row_count": _COUNT,
    "merkle_root": _HASH,
    "plan": PLAN,
    "code_version": _TEXT,
    "previous_hash": _HASH,
    "generated_at": _INSTANT,
    "generated_by": _TEXT,
    "adjustments_hash": _HASH,
    "hash": _HASH,
}
# As the first closes made it: adjustments were bound to nothing.
FIRST_SNAPSHOT = {name: shape for name, shape in SNAPSHOT.items() if name != "adjustments_hash"}
ADJUSTMENT = {
    "of_year_month": _MONTH,
    "quantity": _SIGNED,
    "units_before": _COUNT,
    "plan": PLAN,
    "told": _TEXT,
}
LINE = {
    "kind": _TEXT,
    "of_year_month": _MONTH,
    "quantity": _SIGNED,
    "price_per_1k": (_PRICE, None),
    "amount": _AMOUNT,
    "told": _TEXT,
}
MANIFEST = {
    "format": re.escape(FORMAT),
    "site_id": _ID,
    "year_month": _MONTH,
    "columns": [_TEXT],
    "row_count": _COUNT,
    "event_count": _COUNT,
    "overage_count": _COUNT,
    "sha256": _HASH,
    "merkle_root": _HASH,
    "range_lines": _COUNT,
    "ranges": [_HASH],
    "plan": PLAN,
    "adjustments": [ADJUSTMENT],
    "invoice": {"currency": r"[A-Z]{3}", "lines": [LINE], "total": _AMOUNT},
    "snapshot": (SNAPSHOT, FIRST_SNAPSHOT, None),  # none of a month that is not closed
    "code_version": _TEXT,
    "generated_at": _INSTANT,
    "digest": _HASH,
}


def canonical(value: Any) -> bytes:
    """JSON of which there is one form alone: keys in order, no spaces, UTF-8, one line with its end."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def digest(value: dict[str, Any], without: str) -> str:
    """SHA-256 of the canonical JSON of all fields but one, the one that says it."""
    return sha256(canonical({name: each for name, each in value.items() if name != without})).hexdigest()


def snapshot_hash(site_id: str, year_month: str, event_count: int, overage_count: int) -> str:
    """The frozen hash of an invoice snapshot, as the first systems computed it: it binds the counts alone."""
    return sha256(f"{site_id}:{year_month}:{event_count}:{overage_count}".encode()).hexdigest()


def adjustments_hash(adjustments: Sequence[dict[str, Any]]) -> str:
    """Of the adjustments that a month pays for: with plan and count, which its snapshot has too, they are its invoice."""
    return sha256(canonical(adjustments)).hexdigest()


def unlike(value: Any, shape: Any, at: str) -> str | None:
    """Where a value is not what it should be, as a path of fields; None when all of it is."""
    if isinstance(shape, tuple):
        wrong = [unlike(value, each, at) for each in shape]
        return None if None in wrong else max(filter(None, wrong), key=len)
    if isinstance(shape, dict) and isinstance(value, dict):
        if odd := sorted(shape.keys() ^ value.keys()):
            return f"{at}.{odd[0]}"
        return next(
            filter(None, (unlike(value[name], each, f"{at}.{name}") for name, each in shape.items())), None
        )
    if isinstance(shape, list) and isinstance(value, list):
        return next(
            filter(None, (unlike(each, shape[0], f"{at}[{n}]") for n, each in enumerate(value))), None
        )
    if isinstance(shape, str):
        fits = isinstance(value, str) and re.fullmatch(shape, value) is not None
    elif isinstance(shape, range):
        fits = type(value) is int and value in shape
    else:
        fits = value is None if shape is None else type(value) is shape
    return None if fits else at


def plan_of(terms: dict[str, Any]) -> Plan:
    """The money of a plan's terms, which have the fields of PLAN. Raises PackError."""
    if wrong := unlike(terms, PLAN, "plan"):
        raise PackError(f"{wrong} is not what a plan has there")
    tiers = tuple((tier["up_to"], Decimal(tier["per_1k"])) for tier in terms["tiers"])
    ends = [up_to for up_to, _ in tiers]
    if None in ends[:-1] or any(b is not None and b <= a for a, b in pairwise(ends)):
        raise PackError(
            "plan.tiers do not rise: each ends at a later event than the one before, the last may be open"
        )
    overage = terms["overage_price_per_1k"]
    return Plan(
        terms["currency"],
        Decimal(terms["base_price"]),
        terms["monthly_limit"],
        tiers,
        None if overage is None else Decimal(overage),
        Decimal(terms["minimum"]),
    )


def invoice_of(
    plan: dict[str, Any], units: int, month: str, adjustments: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """The invoice of a manifest, from the terms that stand in it. Raises PackError."""
    corrections = []
    for each in adjustments:
        if wrong := unlike(each, ADJUSTMENT, "adjustment"):
            raise PackError(f"{wrong} is not what an adjustment has there")
        corrections.append(Adjustment(**{**each, "plan": plan_of(each["plan"])}))
    lines = rate(plan_of(plan), units, month, corrections)
    told = [
        {
            "kind": line.kind,
            "of_year_month": line.of_year_month,
            "quantity": line.quantity,
            "price_per_1k": None if line.price_per_1k is None else f"{line.price_per_1k:f}",
            "amount": f"{line.amount:f}",
            "told": line.told,
        }
        for line in lines.lines
    ]
    return {"currency": lines.currency, "lines": told, "total": f"{lines.total:f}"}


# The lines of a file.

_FIELD = re.compile(rb'(?:^|,)("(?:[^"]|"")*"|[^",]*)')


def fields_of(line: bytes) -> list[bytes]:
    """The fields of a line, quotes and all; none when the line has none that can be told apart."""
    if b'"' not in line:
        return line.split(b",")
    found = _FIELD.findall(line)
    return found if b",".join(found) == line else []


def text_of(written: bytes) -> bytes:
    """The text that stands in a field: without quotes, without the apostrophes before formulas, nothing escaped."""
    if written[:1] == b'"':
        written = written[1:-1].replace(b'""', b'"')
    plain = re.sub(rb"(^|;)'", rb"\1", written)
    return re.sub(
        rb"\\u([0-9a-f]{4})", lambda each: chr(int(each[1], 16)).encode("utf-8", "surrogatepass"), plain
    )


class Rows:
    """What the rows of a month come to, read in pieces of any size: counts, hashes, and what is wrong with them.

    The checksum is that of a file that begins with the header; the pieces do not have it. `wanted` is the key of an
    event that is looked for: `line` and `tree.watched` are its own when it was met.
    """

    def __init__(self, month: str, wanted: bytes | None = None) -> None:
        self.tree = Tree()
        self.counts: Counter[tuple[bytes, bytes]] = Counter()  # by billable and state
        self.findings: list[str] = []
        self.line: bytes | None = None
        self._file = sha256(HEADER + b"\n")
        self._month = month.encode()
        self._wanted = wanted
        self._rest = b""  # of a line whose end is still to come
        self._last: bytes | None = None  # key

    def feed(self, piece: bytes) -> None:
        self._file.update(piece)
        whole, end, rest = piece.rpartition(b"\n")
        if not end:
            self._rest += piece
        else:
            self._take(self._rest + whole)
            self._rest = rest
        if len(self._rest) > _LINE_BYTES:
            raise PackError(
                f"line {self.tree.size + 2} has no end within {_LINE_BYTES:,} bytes: it is no row"
            )

    def end(self) -> None:
        """After the last piece: what has no line end is no row."""
        if self._rest:
            self._find(self.tree.size, "has no line end: the file was cut off, or something was appended")

    @property
    def row_count(self) -> int:
        return self.tree.size

    @property
    def event_count(self) -> int:
        return sum(count for (billable, _), count in self.counts.items() if billable == b"true")

    @property
    def overage_count(self) -> int:
        return self.counts[b"true", b"OVERAGE"]

    @property
    def sha256(self) -> str:
        return self._file.hexdigest()

    def _take(self, block: bytes) -> None:
        # All lines at once, in what C does for many: one by one they would take three times as long.
        lines = block.split(b"\n")
        framed = b"\n" + block + b"\n"
        if b'"' in block:
            fields = sum(len(fields_of(line)) for line in lines)
        else:
            fields = block.count(b",") + len(lines)
        keys, outcomes = _keys_and_outcomes(lines)
        if not (
            keys
            and fields == len(lines) * len(COLUMNS)
            and framed.count(b"\n%b-" % self._month) == framed.count(b",%b\n" % self._month) == len(lines)
            and all(_possible(*outcome) for outcome in outcomes)
            and (self._last is None or self._last < keys[0])
            and all(map(lt, keys, keys[1:]))
        ):
            self._explain(lines)
        self.counts += outcomes
        if keys:
            self._last = keys[-1]
        if self._wanted is not None and self.line is None and self._wanted in keys:
            self.line = lines[keys.index(self._wanted)]
            self.tree.watched = self.tree.size + keys.index(self._wanted)
        self.tree.add([sha256(b"\0" + line).digest() for line in lines])

    def _explain(self, lines: list[bytes]) -> None:
        above = self._last
        for at, line in enumerate(lines, self.tree.size):
            row = fields_of(line)
            if line.endswith(b"\r"):
                return self._find(at, "ends in CR and LF: the file was converted, lines end in LF alone")
            if len(row) != len(COLUMNS):
                return self._find(at, f"has {len(row)} fields in place of {len(COLUMNS)}")
            if not row[0][:7] == self._month == row[-1]:
                return self._find(at, f"is of another month than {self._month.decode()}")
            if not _possible(row[3], row[4]):
                return self._find(at, "has an outcome that is none")
            key = text_of(row[1])
            if above is not None and key == above:
                return self._find(at, "repeats the key of the line before it: a key is billed once")
            if above is not None and key < above:
                return self._find(
                    at, "stands below a line with a later key: rows are in the order of their keys"
                )
            above = key
        return None

    def _find(self, index: int, what: str) -> None:
        if not self.findings:
            self.findings.append(f"line {index + 2} {what}")


def _keys_and_outcomes(lines: list[bytes]) -> tuple[Sequence[bytes], Counter[tuple[bytes, bytes]]]:
    """The keys of lines, and how many have which outcome; nothing when there is a line without them."""
    try:
        _, keys, rests = zip(*[line.split(b",", 2) for line in lines], strict=True)
        joined = b"".join(keys)
        if b"\\" in joined or b"'" in joined or b'"' in joined:
            _, keys, rests = zip(
                *[(*(row := fields_of(line))[:2], b",".join(row[2:])) for line in lines], strict=True
            )
            keys = tuple(text_of(key) for key in keys)
        outcomes: Counter[tuple[bytes, bytes]] = Counter()
        # Few beginnings are different ones, and the longest outcome ends within 30 bytes.
        for beginning, count in Counter([rest[:30] for rest in rests]).items():
            _, billable, state, _ = beginning.split(b",", 3)
            outcomes[billable, state] += count
    except ValueError:
        return (), Counter()
    return keys, outcomes


def _possible(billable: bytes, state: bytes) -> bool:
    return state in STATES and billable in (
        (b"false",) if state == b"REJECTED_QUOTA" else (b"true", b"false")
    )


# A pack: the file of rows, and its manifest beside it.


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong with a pack, a sentence each, and what it shows when nothing is."""

    findings: tuple[str, ...]
    facts: tuple[str, ...]


def verify(file: Path, *, event: str | None = None, snapshot: str | None = None) -> Report:
    """Checks every byte of a pack, in constant memory. Raises nothing but OSError, when a file cannot be read.

    `event` is the key of an event whose inclusion is to be proved, `snapshot` the hash on the invoice in dispute.
    """
    try:
        manifest = read_manifest(file.with_name(f"{file.stem}.manifest.json").read_bytes())
        rows = Rows(manifest["year_month"], None if event is None else event.encode("utf-8", "surrogatepass"))
        findings = list(_read(file, rows))
        findings += disagreements(manifest, rows, snapshot)
        if event is not None and rows.line is None:
            findings.append(f"no row has the key {event}")
    except PackError as error:
        return Report((str(error),), ())
    return Report(tuple(findings), () if findings else tuple(_facts(manifest, rows, snapshot)))


def read_manifest(written: bytes) -> dict[str, Any]:
    """The manifest that stands in these bytes, which are its one form. Raises PackError."""
    try:
        manifest = json.loads(written)
        if not isinstance(manifest, dict) or canonical(manifest) != written:
            raise PackError("the manifest was changed: it is not in canonical form")
        if manifest.get("digest") != digest(manifest, without="digest"):
            raise PackError("the manifest was changed: its digest is not that of its fields")
    except (RecursionError, ValueError) as error:
        raise PackError(f"the manifest was changed: it is no JSON ({error})") from None
    if wrong := unlike(manifest, MANIFEST, "manifest"):
        raise PackError(f"{wrong} is not what a manifest of format {FORMAT} has there")
    return manifest


def _read(file: Path, rows: Rows) -> Iterator[str]:
    with file.open("rb") as source:
        header = source.readline(_PIECE_BYTES)
        if header.startswith(b"\xef\xbb\xbf"):
            yield "line 1 begins with a byte order mark: the file was saved by another program"
        elif header == HEADER + b"\r\n":
            yield "line 1 ends in CR and LF: the file was converted, lines end in LF alone"
        elif header != HEADER + b"\n":
            yield "line 1 is not the header of a dispute file"
        while piece := source.read(_PIECE_BYTES):
            rows.feed(piece)
    rows.end()
    yield from rows.findings


def disagreements(manifest: dict[str, Any], rows: Rows, invoiced: str | None = None) -> Iterator[str]:
    """Where a manifest, the rows, the snapshot in it and the invoice in it do not agree. Raises PackError."""
    yield from _row_differences(manifest, rows)
    yield from _snapshot_differences(manifest, invoiced)
    yield from _invoice_differences(manifest, rows.event_count)


def _row_differences(manifest: dict[str, Any], rows: Rows) -> Iterator[str]:
    width, ranges = rows.tree.ranges()
    told = manifest["ranges"]
    if width == manifest["range_lines"] and ranges != told:
        at = next((n for n, pair in enumerate(zip(ranges, told, strict=False)) if pair[0] != pair[1]), None)
        first = (min(len(ranges), len(told)) if at is None else at) * width + 2
        where = f"line {first:,}" if width == 1 else f"lines {first:,} to {first + width - 1:,}"
        yield f"{where} of the file: the first place where it is not what the manifest was made of"
    found = {
        "row_count": rows.row_count,
        "event_count": rows.event_count,
        "overage_count": rows.overage_count,
        "merkle_root": rows.tree.root().hex(),
        "sha256": rows.sha256,
        "range_lines": width,
        "ranges": ranges,
        "columns": list(COLUMNS),
    }
    for name, value in found.items():
        if manifest[name] != value:
            is_long = isinstance(value, list)
            yield f"{name} of the manifest is not that of the file" + (
                "" if is_long else f": {manifest[name]} there, {value} here"
            )


def _snapshot_differences(manifest: dict[str, Any], invoiced: str | None) -> Iterator[str]:
    frozen = manifest["snapshot"]
    if frozen is None:
        if invoiced is not None:
            yield "the month was not closed when the pack was made: it has no snapshot to compare"
        return
    for name in MANIFEST:
        if name in frozen and frozen[name] != manifest[name]:
            yield f"{name} of the snapshot is not that of the manifest"
    if "adjustments_hash" in frozen and frozen["adjustments_hash"] != adjustments_hash(
        manifest["adjustments"]
    ):
        yield "the adjustments are not those of the snapshot: one was added, left out or changed"
    if frozen["snapshot_hash"] != snapshot_hash(
        frozen["site_id"], frozen["year_month"], frozen["event_count"], frozen["overage_count"]
    ):
        yield "snapshot_hash is not that of site, month and counts"
    if frozen["hash"] != digest(frozen, without="hash"):
        yield "the hash of the snapshot is not that of its fields"
    if invoiced is not None and frozen["hash"] != invoiced:
        yield f"the snapshot is {frozen['hash']}, not the one that was invoiced"


def _invoice_differences(manifest: dict[str, Any], units: int) -> Iterator[str]:
    told = manifest["invoice"]
    rated = invoice_of(manifest["plan"], units, manifest["year_month"], manifest["adjustments"])
    for number, (theirs, ours) in enumerate(zip_longest(told["lines"], rated["lines"]), 1):
        if theirs is None or ours is None:
            yield f"invoice line {number} is {'missing' if theirs is None else 'one too many'}"
        for name in LINE if theirs and ours else ():
            if theirs[name] != ours[name]:
                yield f"invoice line {number}: {name} is {theirs[name]}, rows and plan come to {ours[name]}"
    for name in ("currency", "total"):
        if told[name] != rated[name]:
            yield f"{name} of the invoice is {told[name]}, rows and plan come to {rated[name]}"


def _facts(manifest: dict[str, Any], rows: Rows, invoiced: str | None) -> Iterator[str]:
    yield (
        f"{rows.row_count:,} rows of {manifest['year_month']}, {rows.event_count:,} billable,"
        f" {rows.overage_count:,} of them beyond the limit: what the manifest says."
    )
    invoice = manifest["invoice"]
    yield (
        f"Rows, plan and adjustments come to {invoice['total']} {invoice['currency']}"
        f" in {len(invoice['lines'])} lines."
    )
    if frozen := manifest["snapshot"]:
        if "adjustments_hash" not in frozen:
            yield (
                "Adjustments and invoice lines are not bound by this snapshot, which is older than their hash:"
                " compare them, and the total, with the invoice."
            )
        yield f"Snapshot {frozen['hash']}: " + (
            "it must be the one on the invoice. Nothing here is proved before you compare them."
            if invoiced is None
            else "the one that was invoiced."
        )
    else:
        yield "The month was not closed: its counts and adjustments can still change."
    if rows.line is not None and rows.tree.watched is not None:
        yield f"Line {rows.tree.watched + 2}: {rows.line.decode(errors='backslashreplace')}"
        yield f"leaf  {leaf(rows.line).hex()}"
        path = rows.tree.path()
        for beside, side in zip(path, sides(rows.tree.watched, rows.row_count), strict=True):
            yield f"{side:5} {beside.hex()}"
        root = root_of(rows.line, rows.tree.watched, rows.row_count, path)
        yield f"root  {root.hex() if root else None}: the event is one of the {rows.row_count:,} rows."


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when nothing is wrong, 1 when something is."""
    parser = argparse.ArgumentParser(
        description="Checks a dispute pack: a CSV file and the manifest beside it."
    )
    parser.add_argument(
        "file", type=Path, help="dispute-SITE-MONTH.csv; dispute-SITE-MONTH.manifest.json is beside it"
    )
    parser.add_argument(
        "--event", metavar="KEY", help="prove that the event with this key is one of the rows"
    )
    parser.add_argument("--snapshot", metavar="HASH", help="the snapshot's hash as the invoice has it")
    given = parser.parse_args(arguments)
    try:
        report = verify(given.file, event=given.event, snapshot=given.snapshot)
    except OSError as error:
        report = Report((f"{error.filename}: {error.strerror}",), ())
    for sentence in report.findings or report.facts:
        print(sentence.encode("ascii", "backslashreplace").decode())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
