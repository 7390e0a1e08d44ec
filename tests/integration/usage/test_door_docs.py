"""The table of answers in the documentation, each row had from a door: the statuses, words and headers it promises."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from kernel.usage import sites
from kernel.usage.outbox import Message
from tests.integration.usage.capturing import AT, Shop
from tests.integration.usage.doors import Answer, Client, opened
from tests.unit.test_docs import ROOT, text

DOORS = ROOT / "docs/reference/usage-doors.md"


@dataclass(frozen=True)
class Row:
    status: int
    words: frozenset[str]
    headers: frozenset[str]


def rows() -> list[Row]:
    found = re.findall(
        r"^\| (\d{3}) \| ([^|]*) \| ?([^|]*) \| ([^|]*) \| [^|]* \|$", text(DOORS), flags=re.MULTILINE
    )
    return [
        Row(
            int(status),
            frozenset(
                re.findall(r"[a-zA-Z_]{4,}(?: limit)?", " ".join(re.findall(r"`([^`]+)`", body + when)))
            ),
            frozenset(each.lower() for each in re.findall(r"`([\w-]+)(?::[^`]*)?`", headers)),
        )
        for status, body, headers, when in found
    ]


def is_told(answer: Answer) -> bool:
    """Whether a row has the status, the word and every header of an answer."""
    word = answer.body.get("error") or answer.body["status"]
    always = {"x-opsmantik-version", "x-opsmantik-commit", "x-opsmantik-branch"}
    known = {
        name.lower() for name in answer.headers if re.match(r"x-opsmantik|retry-after|www-auth", name, re.IGNORECASE)
    } - always  # fmt: skip
    # Beside a duplicate or a refusal stands how much is left, as beside any.
    return any(
        row.status == answer.status and (word in row.words or word == "queued")
        and row.headers <= known <= row.headers | {"x-opsmantik-quota-remaining", "x-opsmantik-dedup"}
        for row in rows()
    )  # fmt: skip


def deep(client: Client, levels: int) -> bytes:
    start = json.dumps(client.event("a"))[:-1].encode()
    return start + b', "a": ' + b"[" * levels + b"]" * levels + b"}"


def full(client: Client) -> Answer:
    client.shop.plan(0)
    return client.send(client.event("a"))


def overage(client: Client) -> Answer:
    client.shop.soft(1)
    client.send(client.event("a"))
    return client.send(client.event("b"))


def twice(client: Client) -> Answer:
    client.send(client.event("a"))
    return client.send(client.event("a"))


def closed_site(client: Client) -> Answer:
    with client.shop.engine.begin() as connection:
        sites.close(connection, client.shop.site, actor="ann", at=AT)
    return client.send(client.event("a"))


def closed_month(client: Client) -> Answer:
    client.shop.capture("a")
    client.shop.close()
    return client.send(client.event("b"))


def too_fast(client: Client) -> Answer:
    client.send([client.event(str(number)) for number in range(9)])
    return client.send(client.event("b"))


CASES: dict[str, tuple[Callable[[Client], Answer], int, str]] = {
    "new": (lambda client: client.send(client.event("a")), 200, "queued"),
    "overage": (overage, 200, "queued"),
    "twice": (twice, 200, "duplicate"),
    "full": (full, 429, "rejected_quota"),
    "too fast": (too_fast, 429, "Rate limit"),
    "no events": (lambda client: client.send([]), 400, "events_empty"),
    "254 levels": (lambda client: client.send(deep(client, 253)), 200, "queued"),
    "255 levels": (lambda client: client.send(deep(client, 254)), 400, "payload_too_deep"),
    "1,024 levels": (lambda client: client.send(deep(client, 1_023)), 400, "payload_too_deep"),
    "1,025 levels": (lambda client: client.send(deep(client, 1_024)), 400, "invalid_json"),
    "compressed": (
        lambda client: client.send(gzip.compress(b"{}"), **{"content-encoding": "gzip"}), 400, "invalid_json",
    ),
    "another site": (lambda client: client.send(client.event("a", s="x")), 400, "site_not_found"),
    "no key": (lambda client: client.send(client.event("a"), token=None), 401, "missing_write_key"),
    "wrong key": (lambda client: client.send(client.event("a"), token="ros_x"), 403, "wrong_write_key"),
    "closed site": (closed_site, 403, "site_closed"),
    "foreign origin": (
        lambda client: client.send(client.event("a"), origin="https://x.co"), 403, "origin_not_allowed",
    ),
    "too many": (
        lambda client: client.send([client.event(str(n)) for n in range(51)]), 413, "batch_too_many_events",
    ),
    "too large": (lambda client: client.send(b"x" * 300_000), 413, "body_too_large"),
    "closed month": (closed_month, 500, "billing_gate_closed"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_the_documented_one(shop: Shop, name: str) -> None:
    ask, status, word = CASES[name]
    with opened(shop, rate=5 if name == "too fast" else 1_000) as client:
        answer = ask(client)
    assert (answer.status, answer.body.get("error") or answer.body["status"]) == (status, word)
    assert is_told(answer), answer.headers.items()


def test_what_is_degraded_or_busy_is_documented(shop: Shop) -> None:
    def failing(_connection: sa.Connection, _message: Message) -> None:
        raise RuntimeError("no broker")

    with opened(shop, publisher=failing) as client:
        assert is_told(client.send(client.event("a")))
    with opened(shop, most_waiting=0) as client:
        busy = client.send(client.event("b"))
        assert (busy.status, is_told(busy)) == (503, True)


def test_every_documented_status_and_word_is_had(shop: Shop) -> None:
    had = {(status, word) for _, status, word in CASES.values()} | {(200, "degraded"), (503, "busy")}
    for row in rows():
        assert any(
            status == row.status and (word in row.words or word == "queued") for status, word in had
        ), row
    assert len(rows()) == 14


def test_an_answer_that_is_not_documented_is_found(shop: Shop) -> None:
    with opened(shop) as client:
        answer = client.send(client.event("a"))
    answer.status = 202
    assert not is_told(answer)


def test_the_headers_of_a_list_are_the_documented_ones(shop: Shop) -> None:
    (told,) = re.findall(r"Of the headers a list has (.*?)\n\n", text(DOORS), flags=re.DOTALL)
    named = {each.lower() for each in re.findall(r"`([\w-]+)`", told)} - {"x-opsmantik-dedup"}
    shop.soft(1)

    def failing(_connection: sa.Connection, _message: Message) -> None:
        raise RuntimeError("no broker")

    with opened(shop, publisher=failing) as client:
        answer = client.send([client.event(str(number)) for number in range(3)])
    always = {"x-opsmantik-version", "x-opsmantik-commit", "x-opsmantik-branch"}
    sent = {name.lower() for name in answer.headers if re.match("x-opsmantik|retry-after", name)} - always
    assert sent == named
