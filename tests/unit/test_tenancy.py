"""The configuration of a tenant: what is refused when it is written, so that no cycle fails on it later. No database."""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

import pytest

from kernel import tenancy
from kernel.decisions import bundle
from kernel.decisions.contract import Lever
from kernel.errors import RefusedError
from models.vocabulary import ACTION_TYPES
from tests.unit.decisions import scenarios
from tests.unit.decisions.test_certification import decided

# Around every bound, beyond what arithmetic holds, and words of every list beside words of none.
NUMBERS = (
    "0", "-1", "0.004", "1e-30", "1", "62.5", "99.99", "100", "101", "1200", "1201", "1e15", "1e16", "1e28", "1e400", "NaN"
)  # fmt: skip
WORDS = (
    [],
    ["scale"],
    ["alert", "alert"],
    ["pricing"],
    ["scael"],
    ["scale", ""],
    "low",
    "high",
    "acv",
    "",
    None,
)
VALUES = (*NUMBERS, *WORDS, {"smb": "900"}, {"": "1e400"}, {"smb": "-1"}, {"smb": None}, True)


def refused(**values) -> str:
    with pytest.raises(RefusedError) as caught:
        tenancy.parsed_config(values)
    return str(caught.value)


def accepted(field: str) -> list[tenancy.Config]:
    found = []
    for value in VALUES:
        with suppress(RefusedError):
            found.append(tenancy.parsed_config({field: value}))
    return found


@pytest.mark.parametrize("name", ["\x1b[2JEvil", "a\nb", "\u202eb", "\ud800", "\u200b", " ", ""])
def test_a_name_that_a_reader_cannot_see_as_it_is_makes_no_tenant(name: str):
    with pytest.raises(RefusedError, match="has characters that cannot be seen"):
        tenancy.create(None, "slug", name, "USD")


@pytest.mark.parametrize("field", tenancy.Config.model_fields)
def test_a_cycle_can_be_decided_with_whatever_is_accepted(field: str):
    for config in accepted(field):
        rails = {
            "targets": bundle.targets(config),
            "guardrails": bundle.guardrails(config),
            "cfo_guardrails": bundle.cfo_guardrails(config),
        }
        decided(scenarios.given(scenarios.C).model_copy(update=rails))


@pytest.mark.parametrize("field", sorted(set(tenancy.Config.model_fields) - {"time_zone"}))
def test_of_every_field_some_value_is_accepted_and_some_refused(field: str):
    assert 0 < len(accepted(field)) < len(VALUES)


def test_every_type_of_action_may_be_blocked_and_every_lever_left_out():
    told = tenancy.parsed_config({"blocked_actions": list(ACTION_TYPES), "allowed_levers": ["pricing"]})
    assert bundle.guardrails(told).blocked_actions == ACTION_TYPES
    assert tenancy.Config().allowed_levers == list(get_args(Lever))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"blocked_actions": ["scael"]}, "field blocked_actions: 'scael' is unknown: did you mean scale?"),
        ({"blocked_actions": ["zzz"]}, "'zzz' is unknown: choose among config_change, experiment, pause,"),
        (
            {"allowed_levers": ["channel"]},
            "field allowed_levers: 'channel' is unknown: did you mean channels?",
        ),
        ({"cash_risk_tolerance": "hihg"}, "'hihg' is unknown: did you mean high?"),
        ({"max_cca": 1}, "field max_cca: is unknown: did you mean max_cac?"),
        ({"max_cac": "abc"}, "field max_cac: must be a valid decimal, not 'abc'"),
        ({"payback_target_months": 0}, "field payback_target_months: must be greater than 0, not 0"),
        ({"payback_target_months": "1e28"}, "must be less than or equal to 1200, not '1e28'"),
        ({"experiment_exposure_pct": "0.001"}, "must have no more than 2 decimal places, not '0.001'"),
        ({"time_zone": "Mars"}, "Mars is no time zone: use an IANA name such as Europe/Berlin"),
    ],
)
def test_what_cannot_stand_is_refused_with_the_word_that_was_meant(values: dict, told: str):
    assert told in refused(**values)
