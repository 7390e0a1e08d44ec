"""What rules, a model and a language model together propose for a line: one score for each account, of the sources that have
something to say.

s(a) = sum of w_i p_i(a) / sum of w_i over those sources, with the weights of the blend of the reference system. A rule
gives its account all, a model what it gives. The score is raw: how often such a score is right, a calibrator says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from kernel.books.contract import Opinion, Scored
from kernel.books.rules import Ruled

RULE, MODEL, LANGUAGE_MODEL = 0.55, 0.35, 0.10
# A language model gives its account one half: a score is a mean of the sources', so that none above one half is ever made
# higher by an opinion, and no threshold is that low.
OPINION_P = 0.5
_TOP = 3
_Says = tuple[float, Mapping[str, float]]


def blend(
    ruled: Sequence[Ruled], modelled: Iterable[Scored], opinions: Mapping[UUID, Opinion] | None = None
) -> list[Scored]:
    """The model's scores with what the rules, and by their lines language models, say of the same lines, in their order.

    Rules that disagree say nothing.
    """
    told = opinions or {}
    return [_scored(one, other, told.get(other.txn_id)) for one, other in zip(ruled, modelled, strict=True)]


def _scored(ruled: Ruled, modelled: Scored, opinion: Opinion | None) -> Scored:
    says: list[_Says] = []
    if ruled.account is not None and not ruled.has_conflict:
        says.append((RULE, {ruled.account: 1.0}))
    if opinion is None and not says:
        return modelled
    if modelled.account is not None:
        says.append((MODEL, dict(modelled.top)))
    without = _top(says)
    top = without if opinion is None else _top([*says, (LANGUAGE_MODEL, {opinion.account: OPINION_P})])
    account, raw_p = top[0]
    return replace(
        modelled, account=account, raw_p=min(raw_p, 1.0), top=top, is_opinion=not without or account != without[0][0]
    )  # fmt: skip


def _top(says: Sequence[_Says]) -> tuple[tuple[str, float], ...]:
    whole = sum(weight for weight, _ in says)
    scores: dict[str, float] = {}
    for weight, given in says:
        for account, p in given.items():
            scores[account] = scores.get(account, 0.0) + weight * p / whole
    return tuple(sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:_TOP])
