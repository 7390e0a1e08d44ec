"""Real lines: which of them are evaluated, and when their labels become known."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.books_data import Counts, birmingham
from tests.conftest import DATA

FOLDER = DATA / "birmingham-pcard"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the purchase cards of Birmingham are not there")


@pytest.fixture(scope="module")
def read() -> tuple[pd.DataFrame, Counts]:
    return birmingham(FOLDER)


def test_every_row_is_a_line_or_is_counted_under_the_reason_it_is_none(
    read: tuple[pd.DataFrame, Counts],
) -> None:
    frame, counts = read
    assert counts == Counts(
        rows=216_454, no_date=2, no_merchant=4_332, no_label=398, other_chart=73, no_tenant=738,
        published_again=520, lines=210_391,
    )  # fmt: skip
    assert len(frame) == counts.lines
    assert frame["txn"].is_unique


def test_a_label_becomes_known_when_the_month_of_its_line_is_over(read: tuple[pd.DataFrame, Counts]) -> None:
    frame, _ = read
    ends = (frame["period"] + pd.offsets.MonthBegin(1)).dt.tz_localize("UTC")
    assert (frame["labelled_at"] == ends).all()
    assert (pd.to_datetime(frame["post_date"]) < frame["labelled_at"].dt.tz_localize(None)).all()


def test_spending_is_negative_and_refunds_are_not(read: tuple[pd.DataFrame, Counts]) -> None:
    frame, _ = read
    first = frame.set_index("txn").loc["purchase-card-transactions-january-2017.xls:2"]
    assert (first["amount_minor"], first["description"], first["card"]) == (-7261, "shell kings 587", "5770")
    assert 0.01 < (frame["amount_minor"] > 0).mean() < 0.1


def test_directorates_are_told_as_six_tenants(read: tuple[pd.DataFrame, Counts]) -> None:
    frame, _ = read
    assert set(frame["tenant"]) == {"adults", "corporate", "education", "growth", "neighbourhoods", "schools"}
