"""How likely a proposal is right, from how the model's probabilities lie and what people said of the same card and vendor.

A second stage behind any classifier: it moves no proposal, it only tells sure ones from unsure ones better than the
classifier's own probability does. Fitted on logged predictions alone; `calibrate` comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]

WINDOW_MONTHS = 12  # of logged predictions to fit on
LEAST_LINES = 2000  # with fewer the classifier's own probability stands
HALF_LIFE_DAYS = 90.0
LAST = 5  # labels of a place that are looked at one by one
PLACES = {
    "card_vendor": ("tenant", "card", "vendor"),
    "tenant_vendor": ("tenant", "vendor"),
    "tenant_card": ("tenant", "card"),
    "vendor": ("vendor",),
}
# Where the machine's own record is kept; `proposed` is the account it proposes.
RECORDS = {
    "card": ("tenant", "card"),
    "vendor": ("tenant", "vendor"),
    "account": ("tenant", "proposed"),
    "card_account": ("tenant", "card", "proposed"),
    "vendor_account": ("tenant", "vendor", "proposed"),
    "card_vendor": ("tenant", "card", "vendor"),
}
_OF_PLACE = ("lines", "weight", "share", "unseen", "last_same", "days", "newest_same", "newest_accounts")
FEATURES = (
    "logit", "margin", "second", "third", "amount", "is_refund", "account_share",
    *(f"{place}_{name}" for place in PLACES for name in _OF_PLACE),
    *(f"record_{place}_{name}" for place in RECORDS for name in ("right", "weight")),
)  # fmt: skip
# Weights are of these features in this order, and of no others.
_FEATURES_VERSION = sha256(" ".join(FEATURES).encode()).hexdigest()[:12]
_NEVER_DAYS = 999.0
_EDGE = 1e-6
# A place of which nothing was logged yet: two lines' worth of the usual.
_USUAL_RIGHT, _USUAL_LINES = 0.7, 2.0
_KEPT = np.dtype("<f4")
_PULL = 0.1  # strength of the pull to zero, as scikit-learn's C


@dataclass(frozen=True, slots=True)
class Known:
    """What people's labels said until an instant, by place, as arrays: `keys` sorted, `facts` a row per key of (labels,
    weight, hash of the last account, day of the last label, accounts among the last five); `pairs` sorted hashes of (key,
    account), `told` a row per pair of (weight, how many of the last five). The weight halves every 90 days."""

    day: float
    keys: dict[str, Hashes]
    facts: dict[str, Floats]
    last: dict[str, Hashes]
    pairs: dict[str, Hashes]
    told: dict[str, Floats]
    accounts: Hashes
    shares: Floats

    @classmethod
    def of(cls, labelled: pd.DataFrame, *, at: datetime) -> Known:
        """From lines with a label known before an instant; columns tenant, card, vendor, account, post_date, txn."""
        rows = labelled.sort_values(["post_date", "txn"], kind="stable")
        day = float(pd.Timestamp(at).timestamp() / 86400)
        days = pd.to_datetime(rows["post_date"]).to_numpy().astype("datetime64[D]").astype(float)
        weight = np.exp2(-(day - days) / HALF_LIFE_DAYS)
        account = _hash(rows["account"])
        values, counts = np.unique(account, return_counts=True)
        keys, facts, last, pairs, told = {}, {}, {}, {}, {}
        for place, columns in PLACES.items():
            key = _key(rows, columns)
            keys[place], group = np.unique(key, return_inverse=True)
            size = len(keys[place])
            from_end = pd.Series(group).groupby(group).cumcount(ascending=False).to_numpy()
            pairs[place], pair = np.unique(_mixed(key, account), return_inverse=True)
            newest = from_end < LAST
            of_pair = np.bincount(pair[newest], minlength=len(pairs[place]))
            owner = np.empty(len(pairs[place]), dtype=np.int64)
            owner[pair] = group
            ends = np.flatnonzero(from_end == 0)
            order = ends[np.argsort(group[ends])]
            last[place] = account[order]
            facts[place] = np.column_stack(
                [
                    np.bincount(group, minlength=size),
                    np.bincount(group, weights=weight, minlength=size),
                    days[order],
                    np.bincount(owner[of_pair > 0], minlength=size),
                ]
            )
            told[place] = np.column_stack(
                [np.bincount(pair, weights=weight, minlength=len(pairs[place])), of_pair]
            )
        return cls(day, keys, facts, last, pairs, told, values, counts / max(1, len(rows)))

    def evidence(self, lines: pd.DataFrame, proposed: ArrayLike, top_p: ArrayLike) -> Floats:
        """The first part of FEATURES, a row per line. Arguments as of the function `evidence`."""
        p = np.nan_to_num(np.asarray(top_p, dtype=float))
        account = _hash(pd.Series(np.asarray(proposed, dtype=object)))
        amount = lines["amount_minor"].to_numpy(dtype=float)
        columns = [
            logit(p[:, 0].clip(_EDGE, 1 - _EDGE)),
            p[:, 0] - p[:, 1],
            p[:, 1],
            p[:, 2],
            np.log1p(np.abs(amount)),
            (amount > 0).astype(float),
            _found(self.accounts, account, self.shares[:, None])[:, 0],
        ]
        for place, names in PLACES.items():
            key = _key(lines, names)
            facts = _found(self.keys[place], key, self.facts[place])
            told = _found(self.pairs[place], _mixed(key, account), self.told[place])
            labels, weight, day, distinct = facts.T
            known = labels > 0
            last = _found(self.keys[place], key, self.last[place][:, None])[:, 0]
            columns += [
                np.log1p(labels),
                np.log1p(weight),
                np.divide(told[:, 0], weight, out=np.zeros(len(key)), where=known),
                (~known).astype(float),
                (known & (last == account)).astype(float),
                np.log1p(np.where(known, self.day - day, _NEVER_DAYS).clip(min=0)),
                told[:, 1],
                distinct,
            ]
        return np.column_stack(columns)


@dataclass(frozen=True, slots=True)
class Record:
    """How often the machine's logged proposals were right, by place: `keys` sorted, `facts` a row per key of (weight, weight
    of the right ones). The weight halves every 90 days."""

    keys: dict[str, Hashes]
    facts: dict[str, Floats]

    @classmethod
    def of(cls, logged: pd.DataFrame, *, at: datetime) -> Record:
        """From predictions whose labels are known (columns tenant, card, vendor, proposed, account, decided_at), as
        `calibrate.window` gives them for the last twelve months."""
        right = (logged["proposed"] == logged["account"]).to_numpy(dtype=float)
        weight = np.exp2(
            -((pd.Timestamp(at) - logged["decided_at"]) / pd.Timedelta(days=HALF_LIFE_DAYS)).to_numpy(
                dtype=float
            )
        )
        keys, facts = {}, {}
        for place, columns in RECORDS.items():
            keys[place], group = np.unique(_key(logged, columns), return_inverse=True)
            size = len(keys[place])
            told = [np.bincount(group, weights=values, minlength=size) for values in (weight, weight * right)]
            facts[place] = np.column_stack(told)
        return cls(keys, facts)

    def evidence(self, lines: pd.DataFrame, proposed: ArrayLike) -> Floats:
        """The second part of FEATURES, a row per line."""
        asked = lines.assign(proposed=np.asarray(proposed, dtype=object))
        columns = []
        for place, names in RECORDS.items():
            weight, right = _found(self.keys[place], _key(asked, names), self.facts[place]).T
            columns += [(right + _USUAL_RIGHT * _USUAL_LINES) / (weight + _USUAL_LINES), np.log1p(weight)]
        return np.column_stack(columns)


def evidence(
    known: Known, record: Record, lines: pd.DataFrame, proposed: ArrayLike, top_p: ArrayLike
) -> Floats:
    """A row of FEATURES per line, in four bytes a number, as they are kept with a decision.

    `lines` has tenant, card, vendor, amount_minor; `top_p` the probabilities of the three likeliest accounts (0 where
    there are fewer), the proposed one's first.
    """
    return np.hstack([known.evidence(lines, proposed, top_p), record.evidence(lines, proposed)]).astype(_KEPT)


def kept(evidence: NDArray[np.float32]) -> list[bytes]:
    """The rows as they are stored: which features they are of, then the numbers."""
    mark = bytes.fromhex(_FEATURES_VERSION)
    return [mark + row.tobytes() for row in evidence]


def restored(rows: Sequence[bytes | None]) -> NDArray[np.float32]:
    """Rows that were stored; one that was not, or is of other features than this version makes, is all NaN."""
    mark = bytes.fromhex(_FEATURES_VERSION)
    usable = [row is not None and row.startswith(mark) for row in rows]
    whole = b"".join(row[len(mark) :] for row, is_usable in zip(rows, usable, strict=True) if is_usable)
    found = np.full((len(rows), len(FEATURES)), np.nan, dtype=_KEPT)
    found[usable] = np.frombuffer(whole, dtype=_KEPT).reshape(-1, len(FEATURES))
    return found


def first_instant(at: datetime) -> datetime:
    """Of the predictions that are fitted on."""
    return (pd.Timestamp(at) - pd.DateOffset(months=WINDOW_MONTHS)).to_pydatetime()


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a logistic regression on FEATURES, that tenants have in common, and how much surer or less sure each one's are."""

    weight: tuple[float, ...]
    intercept: float
    tenants: Mapping[str, float]

    def of(self, tenant: str) -> dict[str, Any]:
        """A tenant's, as JSON can hold them; one that was not fitted on has nothing of its own."""
        intercept = self.intercept + self.tenants.get(tenant, 0.0)
        return {"features": _FEATURES_VERSION, "weight": list(self.weight), "intercept": intercept}


def fit(evidence: ArrayLike, right: ArrayLike, tenant: ArrayLike) -> Weights | None:
    """Weights, or None where fewer than 2000 logged lines are known or all of
    them were right or wrong. (Boosted trees were tried on the same evidence and were no better.)"""
    x, hit = np.asarray(evidence, dtype=float), np.asarray(right, dtype=bool)
    if len(hit) < LEAST_LINES or hit.all() or not hit.any():
        return None
    scaler = StandardScaler().fit(x)
    tenants = sorted(set(np.asarray(tenant, dtype=object)))
    of_tenant = np.asarray(tenant, dtype=object)[:, None] == np.array(tenants, dtype=object)
    model = LogisticRegression(C=_PULL, max_iter=300).fit(np.hstack([scaler.transform(x), of_tenant]), hit)
    weight = model.coef_[0][: x.shape[1]] / scaler.scale_
    return Weights(
        tuple(weight.tolist()),
        float(model.intercept_[0] - weight @ scaler.mean_),
        dict(zip(tenants, model.coef_[0][x.shape[1] :].tolist(), strict=True)),
    )


def apply(parameters: Mapping[str, Any], evidence: ArrayLike) -> Floats:
    """How likely each proposal is right, in [0, 1]; `parameters` as of `Weights.of`.

    Raises ValueError for weights of other features than this version makes.
    """
    if parameters["features"] != _FEATURES_VERSION:
        raise ValueError("these weights are of other features; fit them anew on newly logged predictions")
    return expit(np.asarray(evidence, dtype=float) @ np.array(parameters["weight"]) + parameters["intercept"])


def _hash(values: pd.Series) -> Hashes:
    return pd.util.hash_array(values.astype(object).fillna("").to_numpy(), categorize=True)


def _mixed(first: Hashes, second: Hashes) -> Hashes:
    # The 64-bit combination of boost and MurmurHash3's finaliser: equal parts in another order give another key.
    mixed = first * np.uint64(0x9E3779B97F4A7C15) ^ second
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    return mixed ^ (mixed >> np.uint64(33))


def _key(rows: pd.DataFrame, columns: tuple[str, ...]) -> Hashes:
    key = _hash(rows[columns[0]])
    for column in columns[1:]:
        key = _mixed(key, _hash(rows[column]))
    return key


def _found(keys: Hashes, wanted: Hashes, values: NDArray[Any]) -> NDArray[Any]:
    if not len(keys):
        return np.zeros((len(wanted), values.shape[1]), dtype=values.dtype)
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where((keys[at] == wanted)[:, None], values[at], values.dtype.type(0))
