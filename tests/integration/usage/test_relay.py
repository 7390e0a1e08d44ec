"""Published events are handed on, each message under one name."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from kernel.usage import relay
from tests.integration.usage.capturing import AT, Shop, event

LATER = AT + timedelta(minutes=1)


def test_each_message_becomes_a_file_with_a_line_for_each_event(shop: Shop, tmp_path: Path):
    odd = event(shop.site, "odd", payload={"u": "\u2028 \\ud800", "n": "two\nlines"})
    shop.capture("a", odd)
    relay.work(shop.engine, relay.folder(tmp_path), lambda: LATER)
    (file,) = (tmp_path / shop.site.public_id).glob("*/*.jsonl")
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [(line["key"], line["site"]) for line in lines] == [
        ("a", shop.site.public_id),
        ("odd", shop.site.public_id),
    ]
    assert lines[1]["payload"] == json.loads(odd.payload)


def test_what_was_handed_on_is_not_handed_on_again(shop: Shop, tmp_path: Path):
    shop.capture("a")
    sink = relay.folder(tmp_path)
    assert relay.work(shop.engine, sink, lambda: LATER) == 1
    assert relay.work(shop.engine, sink, lambda: LATER) == 0


def test_after_a_failure_the_same_message_comes_under_the_same_name(shop: Shop):
    shop.capture("a")
    taken = []

    def failing(parcel: relay.Parcel) -> None:
        taken.append(parcel.id)
        if len(taken) == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        relay.work(shop.engine, failing, lambda: LATER)
    assert relay.work(shop.engine, failing, lambda: LATER) == 1
    assert taken[0] == taken[1]
