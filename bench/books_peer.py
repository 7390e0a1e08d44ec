"""The classifier that plain-text accounting uses, smart_importer, on the same lines under the same monthly schedule.

It gets what it is made for: one model per card, trained again each month on every line whose label was known before.
A line of a card it knows nothing of stays unanswered, which counts as wrong.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd

_CARD, _PLACE = "Liabilities:Card", "Expenses"


@dataclass(frozen=True, slots=True)
class Replayed:
    """`proposed` is indexed by txn and None where nothing was answered; `seconds` is training and predicting."""

    proposed: pd.Series
    seconds: float
    trainings: int


def replay(frame: pd.DataFrame, months: list[pd.Timestamp]) -> Replayed:
    """Predict the lines of each month (`period` of the frame) by models trained on labels known before it.

    Args:
        frame: lines of `bench.books_data.birmingham`, which are also given to the classifier it is compared with.
        months: first days of the months to be predicted.
    """
    logging.getLogger("smart_importer").setLevel(logging.ERROR)
    cards = frame["tenant"] + ":" + frame["card"]
    entries = pd.Series(
        [
            _entry(number, line.post_date, line.description, line.amount_minor, line.account)
            for number, line in enumerate(frame.itertuples(index=False))
        ],
        index=frame.index,
    )
    answers: dict[str, str | None] = {}
    trainings, began = 0, time.perf_counter()
    for month in months:
        asked = frame["period"] == month
        known = frame["labelled_at"] <= month.tz_localize("UTC")
        history = dict(iter(entries[known].groupby(cards[known], sort=False)))
        for card, rows in frame[asked].groupby(cards[asked], sort=False):
            learnt = history.get(card)
            if learnt is not None:
                trainings += 1
                proposed = _predict(list(learnt), list(entries[rows.index]))
                answers.update(zip(rows["txn"], proposed, strict=True))
            else:
                answers.update(dict.fromkeys(rows["txn"]))
    return Replayed(pd.Series(answers, dtype=object), time.perf_counter() - began, trainings)


def _entry(number: int, on: date, description: str, amount_minor: int, account: str) -> Any:
    from beancount.core import amount, data
    from beancount.core.number import D

    units = amount.Amount(D(amount_minor) / 100, "GBP")
    card = data.Posting(_CARD, units, None, None, None, None)
    booked = data.Posting(f"{_PLACE}:{account}", -units, None, None, None, None)
    meta = data.new_metadata("lines", number)
    return data.Transaction(meta, on, "*", "", description, frozenset(), frozenset(), [card, booked])


def _predict(learnt: list[Any], asked: list[Any]) -> list[str | None]:
    from beancount.core import data
    from smart_importer import PredictPostings

    places = {posting.account for entry in learnt for posting in entry.postings}
    opened = [
        data.Open(data.new_metadata("lines", 0), date(2000, 1, 1), place, None, None) for place in places
    ]
    bare = [entry._replace(postings=entry.postings[:1]) for entry in asked]
    ((_, answered, _, _),) = PredictPostings().hook([("lines", bare, _CARD, None)], [*opened, *learnt])
    found = {entry.meta["lineno"]: _account(entry) for entry in answered}
    return [found[entry.meta["lineno"]] for entry in asked]


def _account(entry: Any) -> str | None:
    booked = [posting.account for posting in entry.postings if posting.account.startswith(_PLACE)]
    return booked[0].removeprefix(f"{_PLACE}:") if booked else None
