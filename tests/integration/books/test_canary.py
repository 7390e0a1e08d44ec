"""Canaries: a stable part that grows while it does no worse, and goes back at once when it does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel.books import canary, labels
from kernel.books.contract import Scored
from kernel.books.labels import Label
from kernel.errors import RefusedError
from tests.integration.books.deciding import AT, Deciding, certified

LATER = AT + timedelta(hours=3)


@pytest.fixture
def books(books_engine: sa.Engine) -> Deciding:
    return certified(books_engine)


def start(books: Deciding, kind: canary.Kind = "model") -> canary.Canary:
    return books.run(canary.start, kind, champion="m1", challenger="m2", by="bob", at=AT - timedelta(hours=1))


def step(books: Deciding, kind: canary.Kind = "model", at: Any = LATER, **given: Any) -> canary.Canary | None:
    return books.run(canary.step, kind, by="pipeline", at=at, **given)


def test_what_it_takes_it_keeps_as_it_grows(books: Deciding) -> None:
    small = start(books)
    ids = [uuid4() for _ in range(2_000)]
    large = canary.Canary(
        **{name: getattr(small, name) for name in small.__dataclass_fields__} | {"percent": 50}
    )
    taken = [{each for each in ids if one.takes(books.tenant_id, each)} for one in (small, large)]
    assert taken[0] < taken[1]
    assert 60 <= len(taken[0]) <= 150


def test_one_of_a_kind_is_on_trial_at_a_time(books: Deciding) -> None:
    start(books)
    with pytest.raises(RefusedError, match="m2 is on trial"):
        start(books)
    books.run(canary.revert, "model", by="bob", at=AT, reason="no")
    assert start(books).status == "running"


def tried(
    books: Deciding, count: int, *, old: str = "6300", new: str = "6300", p: float = 0.97
) -> list[UUID]:
    """Lines of which the champion decides some and the challenger some, each noting the other; 6300 is right."""
    on_trial = books.run(canary.running, "model")
    ids = books.lines(*[-1000] * count)
    found = books.read(ids)

    def said(txn_id: UUID, account: str, version: str) -> Scored:
        return Scored(txn_id, account, p, ((account, p),), False, "f", version)

    for is_new, account, other in ((False, old, new), (True, new, old)):
        some = [line for line in found if on_trial.takes(books.tenant_id, line.id) is is_new]
        version, rival = ("m2", "m1") if is_new else ("m1", "m2")
        if some:
            books.decide(
                [line.id for line in some], account, p,
                modelled=[said(line.id, account, version) for line in some],
                shadow={line.id: said(line.id, other, rival) for line in some},
            )  # fmt: skip
    books.run(labels.write, [Label(each, "6300") for each in ids], source="approve", by="ann", at=LATER)
    return ids


def test_one_that_does_no_worse_grows_step_by_step_to_the_end(books: Deciding) -> None:
    start(books)
    percents = []
    for number in range(4):
        tried(books, 130)
        made = step(books, at=LATER + timedelta(minutes=number))
        percents.append((made.percent, made.status))
        books.pinned("update books.canaries set step_at = :at", at=AT - timedelta(hours=1))
    assert percents == [(10, "running"), (50, "running"), (100, "running"), (100, "promoted")]
    assert step(books) is None


def test_too_few_lines_leave_it_where_it_is(books: Deciding) -> None:
    start(books)
    tried(books, 60)
    assert (step(books).percent, step(books).status) == (5, "running")


def test_one_that_is_less_often_right_goes_back(books: Deciding) -> None:
    start(books)
    tried(books, 130, new="6400")
    made = step(books)
    assert (made.status, "less often right" in made.reason) == ("reverted", True)


def test_one_that_lets_wrong_lines_pass_goes_back_at_once(books: Deciding) -> None:
    start(books)
    books.pinned("update books.canaries set percent = 100")
    books.known("6400", vendor="other")
    ids = books.lines(*[-1000] * 12, vendor="other")
    books.decide(ids, "6400", shadow={each: Scored(each, "6400", 0.9, (), False, "f", "m1") for each in ids},
                 modelled=[Scored(line.id, "6400", 0.97, (("6400", 0.97),), False, "f", "m2") for line in books.read(ids)])  # fmt: skip
    books.run(labels.write, [Label(each, "6300") for each in ids], source="approve", by="ann", at=LATER)
    assert "precision 0 of 12" in step(books).reason


def test_harm_of_any_kind_takes_it_back(books: Deciding) -> None:
    start(books)
    made = step(books, harm="a run takes twice as long")
    assert (made.status, made.reason) == ("reverted", "a run takes twice as long")


def test_what_is_posted_grows_with_what_people_find_right(books: Deciding) -> None:
    books.enable(percent=5)
    ids = books.lines(*[-1000] * 140)
    books.decide(ids)
    waiting = [each for each in ids if books.decision(each).verdict == "would_post"]
    books.run(labels.write, [Label(each, "6300") for each in waiting], source="approve", by="ann", at=LATER)
    assert step(books, "autopost").percent == 10
    assert books.run(canary.autopost_percent, since=AT - timedelta(hours=1)) == 10


def test_what_people_find_wrong_ends_it_and_nothing_is_posted(books: Deciding) -> None:
    books.enable(percent=5)
    ids = books.lines(*[-1000] * 20)
    books.decide(ids)
    books.run(labels.write, [Label(each, "6400") for each in ids], source="approve", by="ann", at=LATER)
    assert step(books, "autopost").status == "reverted"
    assert books.run(canary.autopost_percent, since=AT - timedelta(hours=1)) == 0
    books.known(vendor="good")
    (more,) = books.lines(-1000, vendor="good")
    books.decide([more])
    assert books.decision(more).explain["held_back"] == "0 % of lines are posted so far"
    assert books.book().posted == 0
