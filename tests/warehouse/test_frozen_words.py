"""The words SQL has to spell out are those of the vocabulary."""

from __future__ import annotations

import re

from models.vocabulary import CHANNELS, VALUE_STATUSES
from tests.warehouse.build import PROJECT


def _quoted(path: str, start: str, end: str) -> list[str]:
    text = (PROJECT / path).read_text(encoding="utf-8")
    return re.findall(r"'(\w+)'", text.split(start)[1].split(end)[0])


def test_the_contract_of_the_mart_allows_the_statuses_of_the_vocabulary() -> None:
    assert _quoted("models/marts/_marts__models.yml", "value_status in (", ")") == list(VALUE_STATUSES)


def test_cost_is_attributed_to_the_channels_of_the_vocabulary() -> None:
    model = "models/intermediate/economics/int_acquisition_channels_spined_daily.sql"
    assert _quoted(model, "set known_channels = [", "]") == list(CHANNELS)
