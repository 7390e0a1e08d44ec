"""What rules and a model together propose for a line: one score for each account, of the sources that have something to say.

s(a) = sum of w_i p_i(a) / sum of w_i over those sources, with the weights of the blend of the reference system. A rule
gives its account all, a model what it gives. The score is raw: how often such a score is right, a calibrator says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel.books.contract import Scored
from kernel.books.rules import Ruled

RULE, MODEL = 0.55, 0.35
_TOP = 3


def blend(ruled: Sequence[Ruled], modelled: Iterable[Scored]) -> list[Scored]:
    """The model's scores with what the rules say of the same lines, in their order. Rules that disagree say nothing."""
    return [
        _both(one, other) if one.account is not None and not one.has_conflict else other
        for one, other in zip(ruled, modelled, strict=True)
    ]


def _both(ruled: Ruled, modelled: Scored) -> Scored:
    rule = 1.0 if modelled.account is None else RULE / (RULE + MODEL)
    scores = {account: (1 - rule) * p for account, p in modelled.top}
    scores[ruled.account] = scores.get(ruled.account, 0.0) + rule
    top = sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:_TOP]
    account, raw_p = top[0]
    return Scored(
        modelled.txn_id, account, min(raw_p, 1.0), tuple(top), modelled.is_new_vendor, modelled.feature_hash,
        modelled.model_version, modelled.sources,
    )  # fmt: skip
