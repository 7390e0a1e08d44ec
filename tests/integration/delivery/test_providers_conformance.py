"""Every adapter before a real server, and one that lies, to show that the suite sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kernel.delivery.providers.base import Message, Outcome
from kernel.delivery.providers.registry import PROVIDERS
from tests.integration.delivery import conformance
from tests.integration.delivery.conformance import ADAPTERS, CHECKS, Bench


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_conforms(name: str, check: Callable[[Bench], None], tmp_path: Path):
    with ADAPTERS[name](tmp_path) as bench:
        check(bench)


def test_every_provider_is_listed():
    assert set(ADAPTERS) == set(PROVIDERS)


class Liar:
    """Says `rejected` where it does not know, and forgets keys."""

    def __init__(self, honest: object) -> None:
        self._honest = honest
        self.capabilities = honest.capabilities

    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        told = self._honest.send(messages, key)
        return [
            replace(outcome, state="rejected", is_retryable=True) if outcome.state == "unknown" else outcome
            for outcome in told
        ]


class Forgetful(Liar):
    def send(self, messages: Sequence[Message], key: str) -> list[Outcome]:
        return self._honest.send(messages, f"{key}{id(messages)}{messages}"[:80] + str(_next()))


_calls = iter(range(1000))


def _next() -> int:
    return next(_calls)


@pytest.mark.parametrize(
    ("liar", "check"),
    [
        (Liar, conformance.faults_are_told_as_what_they_are),
        (Liar, conformance.a_batch_is_told_by_place),
        (Forgetful, conformance.a_key_has_one_effect),
    ],
)
def test_an_adapter_that_lies_does_not_conform(
    liar: type[Liar], check: Callable[[Bench], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(conformance, "channel_of", lambda provider: "email")
    with conformance.resend(tmp_path) as bench:
        bench.provider = liar(bench.provider)
        with pytest.raises(AssertionError):
            check(bench)
