"""Gates: each holds or does not by its own fact, and what a part of lines is stays so."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.books import autopost, blend
from kernel.books.autopost import Facts, Memory
from kernel.books.contract import REASONS, Opinion, Scored
from kernel.books.rules import SILENT, Rule, Ruled

CHART = {"1000", "6300", "6400"}
GOOD = Facts("6300", "1000", 0.95, 0.90, Memory(3, ("6300",) * 3), 3, False, False, False)


def test_a_line_that_nothing_is_said_against_passes() -> None:
    assert autopost.failures(GOOD, CHART) == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"memory": Memory()}, "cold_start"),
        ({"memory": Memory(2, ("6300",) * 2)}, "cold_start"),
        ({"memory": Memory(3, ("6300", "6300", "6400"))}, "cold_start"),
        ({"memory": Memory(3, ("6400",) * 3)}, "cold_start"),
        ({"coldstart_min_labels": 4}, "cold_start"),
        ({"calibrated_p": None}, "below_threshold"),
        ({"threshold": None}, "below_threshold"),
        ({"calibrated_p": 0.92, "threshold": 0.95}, "below_threshold"),
        ({"bank_code": "6300"}, "imbalance"),
        ({"bank_code": "1001"}, "imbalance"),
        ({"has_budget_fallback": True}, "budget_fallback"),
        ({"is_unusual": True}, "anomaly"),
        ({"has_rule_conflict": True}, "rule_conflict"),
    ],
)
def test_one_fact_that_is_wrong_fails_one_gate(changed: dict, reason: str) -> None:
    assert autopost.failures(replace(GOOD, **changed), CHART) == (reason,)


@pytest.mark.parametrize("threshold", [0.90, 0.85])
def test_a_probability_at_the_threshold_or_above_passes(threshold: float) -> None:
    assert autopost.failures(replace(GOOD, calibrated_p=0.90, threshold=threshold), CHART) == ()


def test_a_third_label_that_agrees_warms_a_vendor_and_older_disagreement_is_over() -> None:
    assert autopost.failures(replace(GOOD, memory=Memory(5, ("6300",) * 3 + ("6400",) * 2)), CHART) == ()


def test_all_that_fail_are_told_in_the_order_of_the_reasons() -> None:
    bad = Facts("6300", "6300", 0.1, 0.9, Memory(), 3, True, True, True)
    assert autopost.failures(bad, CHART) == REASONS


def test_nothing_proposed_never_passes() -> None:
    assert autopost.failures(replace(GOOD, account=None), CHART) == ("cold_start",)


@pytest.mark.parametrize("percent", [0, 2, 5, 50, 100])
def test_a_part_is_as_large_as_it_is_called(percent: int) -> None:
    tenant = UUID(int=1)
    drawn = sum(autopost.is_drawn("audit", tenant, UUID(int=each), percent) for each in range(10_000))
    assert drawn == pytest.approx(100 * percent, abs=150 * (0 < percent < 100))


def test_a_part_that_grows_keeps_what_it_had_and_parts_of_two_purposes_differ() -> None:
    tenant, ids = uuid4(), [uuid4() for _ in range(2_000)]
    small = {each for each in ids if autopost.is_drawn("autopost", tenant, each, 5)}
    large = {each for each in ids if autopost.is_drawn("autopost", tenant, each, 10)}
    audited = {each for each in ids if autopost.is_drawn("audit", tenant, each, 5)}
    assert small < large
    assert small != audited


def test_a_blend_is_over_the_sources_that_have_something_to_say() -> None:
    model = Scored(uuid4(), "6400", 0.6, (("6400", 0.6), ("6300", 0.3)), False, "", "m1")
    rule = Rule("r", False, "regex", "x", "6300")
    (both,) = blend.blend([Ruled("6300", (rule,))], [model])
    assert (both.account, both.raw_p) == ("6300", pytest.approx((0.55 + 0.35 * 0.3) / 0.9))
    (alone,) = blend.blend([Ruled("6300", (rule,))], [replace(model, account=None, raw_p=0.0, top=())])
    assert (alone.account, alone.raw_p) == ("6300", 1.0)
    assert blend.blend([Ruled("6300", (rule,), has_conflict=True)], [model]) == [model]


def test_a_language_model_is_the_third_source_of_a_blend() -> None:
    model = Scored(uuid4(), "6400", 0.6, (("6400", 0.6), ("6300", 0.3)), True, "", "m1")
    rule = Rule("r", False, "regex", "x", "6300")
    said = {model.txn_id: Opinion("llm", "6300")}
    (all_three,) = blend.blend([Ruled("6300", (rule,))], [model], said)
    assert all_three.raw_p == pytest.approx(0.55 + 0.35 * 0.3 + 0.10 * 0.5)
    (two,) = blend.blend([SILENT], [model], said)
    assert dict(two.top) == pytest.approx(
        {"6400": 0.35 * 0.6 / 0.45, "6300": (0.35 * 0.3 + 0.10 * 0.5) / 0.45}
    )
    (alone,) = blend.blend([SILENT], [replace(model, account=None, raw_p=0.0, top=())], said)
    assert (alone.account, alone.raw_p, alone.is_opinion) == ("6300", 0.5, True)


@given(
    p=st.floats(0, 1),
    other=st.floats(0, 1),
    names=st.sampled_from(["6300", "6400", "6500"]),
    ruled=st.booleans(),
)
def test_an_opinion_raises_no_score_above_one_half(p: float, other: float, names: str, ruled: bool) -> None:
    ranked = sorted((("6300", p), ("6400", other * (1 - p))), key=lambda each: -each[1])
    model = Scored(uuid4(), *ranked[0], tuple(ranked), True, "", "m1")
    rules = [Ruled("6400", (Rule("r", False, "regex", "x", "6400"),)) if ruled else SILENT]
    (without,) = blend.blend(rules, [model])
    (found,) = blend.blend(rules, [model], {model.txn_id: Opinion("llm", names)})
    assert found.raw_p <= max(0.5, without.raw_p) + 1e-12
    assert found.is_opinion == (found.account != without.account)
