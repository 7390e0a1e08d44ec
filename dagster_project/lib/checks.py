"""Verdicts of the quality suites as asset check results, the only place that translates them."""

from __future__ import annotations

import dagster as dg

from quality.verdict import Verdict


def check_result(name: str, asset_key: dg.AssetKey, verdict: Verdict) -> dg.AssetCheckResult:
    """Passed means nothing was found; what was found is an error only where a finding blocks."""
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset_key,
        passed=not verdict.findings,
        severity=dg.AssetCheckSeverity.ERROR if verdict.blocked else dg.AssetCheckSeverity.WARN,
        metadata={
            "expectations": verdict.evaluated,
            "rows": verdict.rows,
            "findings": dg.MetadataValue.md(verdict.as_markdown()),
        },
    )
