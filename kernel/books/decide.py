"""Decisions about bank lines: what is proposed, how sure, which gates hold, and why; each logged, bound to the one before it.

What follows from a decision stands in `journal` and `review`. Probabilities come from outside: a model's raw ones with
the lines, how sure one may be of a proposal as a function.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import sqlalchemy as sa

from kernel import chain, tenancy
from kernel.books import anomaly, autopost, blend, facts, plans, rules, transfers
from kernel.books.contract import BankLine, Opinion, Reason, Scored, Sure, Surety
from kernel.books.facts import Known
from kernel.books.rules import Ruled, Ruleset
from kernel.books.transfers import Side
from models.books_learning import decisions
from models.statements import array, statements, texts

_AT_ONCE = 5_000
_HITS_TOLD = 5
# Of a number people read four digits; more, and the text of its JSON is no longer everywhere the same.
_DIGITS = 4
_NOT_SURE = Sure()


@dataclass(frozen=True, slots=True)
class Judged:
    """A line with all that is decided about it. `failures` are the gates that do not hold, the primary reason first."""

    line: BankLine
    scored: Scored
    ruled: Ruled
    sure: Sure
    memory: autopost.Memory
    unusual: anomaly.Unusual | None
    side: Side | None
    failures: tuple[Reason, ...]
    verdict: str
    is_audited: bool
    held_back: str | None


@dataclass(frozen=True, slots=True)
class Decided:
    """`already_labelled`: lines that people answered before, which were passed by. `reasons` counts primary reasons."""

    count: int
    verdicts: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    already_labelled: int = 0
    first_number: int | None = None
    last_number: int | None = None


def decide(
    connection: sa.Connection,
    tenant_id: UUID,
    lines: Sequence[BankLine],
    modelled: Sequence[Scored] | None,
    *,
    run_id: str,
    at: datetime,
    surety: Surety | None = None,
    calibrator_version: str = "none",
    budget_fallback: bool = False,
    ruleset: Ruleset | None = None,
    shadow: Mapping[UUID, Scored] | None = None,
    opinions: Mapping[UUID, Opinion] | None = None,
    again: bool = False,
) -> Decided:
    """Decides about lines and logs it, in this transaction.

    `modelled`: what a model says of each line, in their order; None without one. `surety` says how sure one may be of what
    is proposed; without it every line goes to review. `budget_fallback`: the tenant's budget for language models is used
    up. `shadow`: what a newer version says, which is noted and decides nothing. `opinions`: what a language model answered of
    lines, these or others. `again`: lines with a label too.
    """
    tenancy.service(connection, tenant_id)
    # One after another: what is known is read when the decisions before are there.
    chain.hold(connection, decisions, tenant_id)
    ruleset = ruleset or rules.load(connection, tenant_id)
    modelled = modelled or [silent(line.id) for line in lines]
    known = facts.read(connection, tenant_id, lines, at=at)
    open_ones = [
        pair for pair in zip(lines, modelled, strict=True) if again or pair[0].id not in known.labelled
    ]
    passed_by = len(lines) - len(open_ones)
    if not open_ones:
        return Decided(0, already_labelled=passed_by)
    lines, modelled = map(list, zip(*open_ones, strict=True))
    ruled = rules.evaluate(ruleset, lines)
    sides = transfers.find(connection, tenant_id, lines, ruled, ruleset)
    if missing := sides.keys() - {line.id for line in lines}:
        added = transfers.read(connection, tenant_id, sorted(missing, key=str))
        lines += added
        modelled += [silent(line.id) for line in added]
        ruled += rules.evaluate(ruleset, added)
        known = facts.read(connection, tenant_id, lines, at=at)
    judged = judge(
        tenant_id, lines, blend.blend(ruled, modelled, opinions), ruled, known,
        surety=surety, budget_fallback=budget_fallback, sides=sides,
    )  # fmt: skip
    told = [
        _row(each, model, known, (shadow or {}).get(each.line.id), (opinions or {}).get(each.line.id))
        for each, model in zip(judged, modelled, strict=True)
    ]
    same_for_all = {
        "run_id": run_id,
        "decided_at": at,
        "threshold": _decimal(known.threshold),
        "ruleset_version": ruleset.version,
        "calibrator_version": calibrator_version,
        "config_version": known.held.version,
    }
    plans.afresh(connection, len(told))
    first, last = _write(connection, tenant_id, told, same_for_all)
    plans.afresh(connection, len(told))
    _write_confidence(connection, tenant_id, judged, first)
    return Decided(
        len(judged), Counter(each.verdict for each in judged),
        Counter(each.failures[0] for each in judged if each.failures), passed_by, first, last,
    )  # fmt: skip


def silent(txn_id: UUID) -> Scored:
    """What is said of a line where there is no model."""
    return Scored(txn_id, None, 0.0, (), True, "none", "none")


def judge(
    tenant_id: UUID,
    lines: Sequence[BankLine],
    scored: Sequence[Scored],
    ruled: Sequence[Ruled],
    known: Known,
    *,
    surety: Surety | None,
    budget_fallback: bool = False,
    sides: Mapping[UUID, Side] | None = None,
) -> list[Judged]:
    """What would be decided, by what is known: nothing is read and nothing written."""
    surely = [_NOT_SURE] * len(lines) if surety is None else surety(lines, scored)
    given = known.held.settings
    made = []
    for line, score, rule, sure in zip(lines, scored, ruled, surely, strict=True):
        side = (sides or {}).get(line.id)
        # A pair is told by its two lines, not by a model: how often that is right, no calibrator has seen. What nobody but a
        # language model proposes waits for a person, whatever a calibrator makes of its score.
        account = side.account if side else score.account
        if side or score.account is None or score.is_opinion:
            sure = _NOT_SURE
        memory, unusual = known.memory_of(line), known.unusual(line)
        failing = autopost.failures(
            autopost.Facts(
                account, known.bank_code[line.id], sure.calibrated_p, known.threshold, memory, given.coldstart_min_labels,
                budget_fallback, unusual is not None or sure.brake is not None, rule.has_conflict,
            ),
            known.accounts_in_use,
        )  # fmt: skip
        held_back = known.held_back(tenant_id, line) if known.may_post and not failing else None
        posts = known.may_post and not failing and held_back is None
        is_audited = posts and autopost.is_drawn("audit", tenant_id, line.id, given.audit_percent)
        verdict = "review" if failing else "posted" if posts else "would_post"
        made.append(
            Judged(line, score, rule, sure, memory, unusual, side, failing, verdict, is_audited, held_back)
        )
    return made


def _row(
    each: Judged, model: Scored, known: Known, shadow: Scored | None, opinion: Opinion | None
) -> dict[str, Any]:
    """The columns of a decision that differ from line to line, as the database will give them back."""
    side, scored = each.side, each.scored
    return {
        "txn_id": str(each.line.id),
        "vendor": each.line.vendor,
        "proposed_account": side.account if side else scored.account,
        "raw_p": _decimal(scored.raw_p),
        "calibrated_p": _decimal(each.sure.calibrated_p),
        "verdict": each.verdict,
        "not_auto_post_reason": each.failures[0] if each.failures else None,
        "failures": list(each.failures),
        "is_audited": each.is_audited,
        "label_count": each.memory.label_count,
        "is_new_vendor": scored.is_new_vendor,
        "model_version": scored.model_version,
        "feature_hash": scored.feature_hash,
        "explain": _explain(each, model, known, shadow, opinion),
    }


def _explain(
    each: Judged, model: Scored, known: Known, shadow: Scored | None, opinion: Opinion | None
) -> dict[str, Any]:
    memory = each.memory
    told: dict[str, Any] = {
        "cold_start": {
            "consistent": memory.is_consistent(known.held.settings.coldstart_min_labels),
            "suggested_account": memory.last[0] if memory.last else None,
        },
        "model": {"account": model.account, "p": round(model.raw_p, _DIGITS), "top": _top(model)},
        "gate": {"certificate": known.gate.certificate, "closed": known.gate.why},
    }
    if each.ruled.hits:
        deciding = None if each.ruled.has_conflict else each.ruled.deciding
        told["rules"] = {
            "decided": deciding and deciding.id,
            "conflict": each.ruled.has_conflict,
            "hits": [
                [rule.id, rule.account, rule.pattern, rule.priority] for rule in each.ruled.hits[:_HITS_TOLD]
            ],
        }
    if each.scored is not model:
        told["blend"] = _top(each.scored)
    if opinion is not None:
        told["llm"] = {"model": opinion.model, "account": opinion.account}
    if model.sources:
        told["sources"] = _plain(model.sources)
    if each.unusual:
        told["anomaly"] = {
            "why": each.unusual.why,
            "z": _plain(each.unusual.z),
            "detector": anomaly.DETECTOR,
        }
    if each.sure.confidence is not None:
        told["confidence"] = round(each.sure.confidence, _DIGITS)
    if each.sure.brake:
        told["brake"] = each.sure.brake
    if each.side:
        told["transfer"] = {"with": str(each.side.other_id), "is_out": each.side.is_out}
    if each.held_back:
        told["held_back"] = each.held_back
    if shadow is not None:
        told["shadow"] = {
            "version": shadow.model_version,
            "account": shadow.account,
            "p": round(shadow.raw_p, _DIGITS),
        }
    return told


def _top(scored: Scored) -> list[list[Any]]:
    return [[account, round(p, _DIGITS)] for account, p in scored.top]


def _plain(value: Any) -> Any:
    """The value as JSON that reads the same whoever writes it."""
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0 if math.isfinite(value) and abs(value) < 10**15 else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [_plain(each) for each in value]
    return _plain(value.item()) if isinstance(value, np.generic) else str(value)


def _decimal(p: float | None) -> str | None:
    return None if p is None else f"{p:.8f}"


def _write(
    connection: sa.Connection,
    tenant_id: UUID,
    told: Sequence[dict[str, Any]],
    same_for_all: Mapping[str, Any],
) -> tuple[int, int]:
    """Logs the decisions; the first number and the last."""
    first = last = 0
    for start in range(0, len(told), _AT_ONCE):
        some = told[start : start + _AT_ONCE]
        rows = list(chain.bound(connection, decisions, tenant_id, (row | same_for_all for row in some)))
        column = {name: [row[name] for row in rows] for name in rows[0]}
        first, last = first or column["number"][0], column["number"][-1]
        connection.execute(
            statements("books_decide")["write"],
            {
                **{name: value for name, value in same_for_all.items() if name != "decided_at"},
                "tenant_id": tenant_id,
                "at": same_for_all["decided_at"],
                **{name: texts(column[name]) for name in _TEXTS},
                **{name: array("NULL" if each is None else each for each in column[name]) for name in _PLAIN},
                "failures": array(f'"{",".join(each)}"' for each in column["failures"]),
                "explain": texts([orjson.dumps(each).decode() for each in column["explain"]]),
            },
        )
    return first, last


def _write_confidence(
    connection: sa.Connection, tenant_id: UUID, judged: Sequence[Judged], first: int
) -> None:
    """Keeps what confidences are made of, beside the decisions that begin with this number."""
    told = [(number, each.sure) for number, each in enumerate(judged, first) if each.sure.seen is not None]
    for start in range(0, len(told), _AT_ONCE):
        numbers, surely = zip(*told[start : start + _AT_ONCE], strict=True)
        connection.execute(
            statements("books_decide")["write_confidence"],
            {
                "tenant_id": tenant_id,
                "numbers": array(numbers),
                "confidence": array(_decimal(sure.confidence) or "NULL" for sure in surely),
                "seen": array(rf'"\\x{sure.seen.hex()}"' for sure in surely),
            },
        )


_TEXTS = ("vendor", "proposed_account", "model_version", "feature_hash")
_PLAIN = (
    "number", "txn_id", "raw_p", "calibrated_p", "verdict", "not_auto_post_reason", "is_audited", "label_count",
    "is_new_vendor", "previous_hash", "hash",
)  # fmt: skip
