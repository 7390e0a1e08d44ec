"""Kernels that are broken on purpose, one rule each: what the certification of delivery must notice.

Each function is called in a worker process before it begins; nothing of it outlives the process.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from kernel.delivery import reconcile, rollup, send, settle
from kernel.delivery.providers.base import Outcome, rejected
from models.statements import statements


def change(file: str, name: str, old: str, new: str) -> None:
    text = statements(file)[name].text
    assert old in text, f"{name} has no {old!r} any more: break it in another way"
    statements(file)[name] = sa.text(text.replace(old, new))


def unknown_is_failed() -> None:
    """Whoever went silent has sent nothing, it is taken; and is tried again."""
    asked = reconcile._asked

    def guessed(provider: Any, call: Any) -> dict[Any, Outcome]:
        failed = rejected("silent", "nothing was heard", retryable=True)
        return {
            id_: failed if each.state == "unknown" else each for id_, each in asked(provider, call).items()
        }

    reconcile._asked = guessed


def a_replay_has_a_key_of_its_own() -> None:
    asked = reconcile._asked

    class Anew:
        def __init__(self, provider: Any) -> None:
            self._provider, self.capabilities = provider, provider.capabilities

        def send(self, messages: Any, key: str) -> Any:
            return self._provider.send(messages, f"{key}-{uuid4()}")

        def lookup(self, message: Any, key: str) -> Any:
            return self._provider.lookup(message, key)

    reconcile._asked = lambda provider, call: asked(Anew(provider), call)


def every_provider_is_asked_again() -> None:
    """Calls are repeated whether or not the provider knows their key."""
    asked = reconcile._asked
    from datetime import timedelta

    class Eager:
        def __init__(self, provider: Any) -> None:
            self.capabilities = replace(provider.capabilities, key_window=timedelta(days=1))
            self.send, self.lookup = provider.send, provider.lookup

    reconcile._asked = lambda provider, call: asked(Eager(provider), call)


def calls_begin_whenever() -> None:
    prepared = send.prepare

    def without_end(*given: Any, **named: Any) -> Any:
        wave = prepared(*given, **named)
        return replace(wave, call_until=float("inf")) if isinstance(wave, send.Wave) else wave

    send.prepare = without_end


def a_late_outcome_is_thrown_away() -> None:
    change(
        "delivery",
        "settle_attempts",
        "when 'unknown' then given.state <> 'unknown'",
        "when 'unknown' then false",
    )


def what_is_swept_is_sent_again() -> None:
    """A job that is taken back brings its items along as if they had never been touched."""
    change(
        "delivery", "pick", "where status = 'queued' and ordinal > :after",
        "where status in ('queued', 'dispatching') and ordinal > :after",
    )  # fmt: skip
    # Later than the job is taken back.
    change(
        "delivery_reconcile", "stalled", "<= clock_timestamp()", "<= clock_timestamp() - interval '2 seconds'"
    )


def counts_leave_out_the_unknown() -> None:
    rolled = rollup.status_of
    rollup.status_of = lambda counts, **given: rolled(
        replace(counts, unknown=0, accepted=counts.accepted + counts.unknown), **given
    )


def no_case_is_opened() -> None:
    settle._keep_cases = lambda *given: None


def every_failure_may_be_retried() -> None:
    change("delivery", "settle_items", "is_retryable = given.is_retryable", "is_retryable = true")
