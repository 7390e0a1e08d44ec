"""Calibrator and certificate of each tenant of those that learn together, made of their logged predictions.

Pure: where predictions come from and where gates are kept is the business of `gate_records` and of the bench.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from ml import calibrate, certify
from ml.calibrate import Calibrator
from ml.certify import Certificate, Shift

# Longer than what calibrators are fitted on: a bound needs many lines, and a certificate that was too good is found out
# by the next month.
PROOF_MONTHS = 6
_NEWEST = pd.DateOffset(months=1)


@dataclass(frozen=True, slots=True)
class Gate:
    """`lines` are those that the certificate was made of, with `calibrated_p` by this calibrator."""

    calibrator: Calibrator
    certificate: Certificate
    shift: Shift
    lines: pd.DataFrame

    @property
    def threshold(self) -> float | None:
        """From where on lines may be posted; None while the gate is closed."""
        return None if self.shift.closes else self.certificate.threshold

    @property
    def closed(self) -> str | None:
        """Why the gate is closed, in words for people."""
        return self.certificate.reason or self.shift.reason


def make(
    logged: pd.DataFrame, *, at: datetime, targets: Mapping[str, float] | None = None
) -> dict[str, Gate]:
    """A gate for each tenant that occurs in `logged`, on what was known at an instant.

    `logged` is as `frames.logged` gives it: tenant, txn, decided_at, labelled_at, post_date, proposed, account, raw_p,
    verdict, is_audited. `targets` names the precision to prove for a tenant, where it is not the usual.
    """
    proof = calibrate.window(logged, at=at, months=PROOF_MONTHS)
    recent = calibrate.window(logged, at=at)
    shared = _fitted(recent)
    return {
        str(tenant): _gate(
            lines, recent[recent["tenant"] == tenant], shared, at, (targets or {}).get(str(tenant))
        )
        for tenant, lines in proof.groupby("tenant")
    }


def _gate(
    proof: pd.DataFrame, recent: pd.DataFrame, shared: Calibrator, at: datetime, target: float | None
) -> Gate:
    made = calibrate.shrunk(_fitted(recent), shared)
    lines = certify.checkable(proof.assign(calibrated_p=calibrate.apply(made.parameters, proof["raw_p"])))
    lines = lines[lines["calibrated_p"].notna()]
    certificate = certify.certify(lines["calibrated_p"], _right(lines), target=target or certify.TARGET)
    newest = proof["labelled_at"] >= pd.Timestamp(at) - _NEWEST
    shift = certify.label_shift(proof.loc[~newest, "account"], proof.loc[newest, "account"])
    return Gate(made, certificate, shift, lines)


def _fitted(lines: pd.DataFrame) -> Calibrator:
    return calibrate.fit(lines["raw_p"], _right(lines))


def _right(lines: pd.DataFrame) -> np.ndarray:
    return (lines["proposed"] == lines["account"]).to_numpy()
