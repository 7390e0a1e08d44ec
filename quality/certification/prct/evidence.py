"""The proof that is kept of a certification: one JSON file, sealed by the digest of its own content.

The seal shows that a file is as it was written. Who wrote it, it does not show: keep it where only CI may write.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kernel.errors import RefusedError
from quality.certification.prct.run import Report

FORMAT = 1


def of(report: Report) -> dict[str, Any]:
    """Everything that was checked, with `sha256` over its canonical form without that field."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "started_at": report.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat(),
        "components": {
            each.name: {"version": each.version, "sha256": each.digest, "is_agreed": each.is_agreed}
            for each in report.components
        },
        "checks": [
            {
                "id": check.id,
                "scenario": check.scenario,
                "what": check.what,
                "expected": check.expected,
                "found": check.found,
                "passed": check.passed,
            }
            for check in report.checks
        ],
        "verdict": "passed" if report.passed else "failed",
    }
    return content | {"sha256": _digest(content)}


def write(content: dict[str, Any], path: Path) -> None:
    """Writes what `of` gave. Raises RefusedError when the file cannot be written."""
    try:
        path.write_text(_text(content), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be written ({error.strerror}): name another file") from None


def verify(path: Path) -> dict[str, Any]:
    """The content, when every byte is as it was written and verdicts follow from values. Raises RefusedError."""
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise RefusedError(f"{path.name} is no evidence: it is not JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RefusedError(
            f"{path.name} is no evidence of format {FORMAT}: make it with revenue-os certify prct"
        )
    unsealed = {name: value for name, value in content.items() if name != "sha256"}
    if content.get("sha256") != _digest(unsealed) or text != _text(content):
        raise RefusedError(
            f"{path.name} was changed after it was written: its content does not give its sha256"
        )
    checks = content["checks"]
    wrong = [check["id"] for check in checks if check["passed"] != (check["expected"] == check["found"])]
    passed = bool(checks) and all(check["passed"] for check in checks)
    if wrong or content["verdict"] != ("passed" if passed else "failed"):
        raise RefusedError(
            f"{path.name}: its verdicts do not follow from what was found ({', '.join(wrong) or 'verdict'})"
        )
    return content


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _text(content: dict[str, Any]) -> str:
    """Sorted and indented, so that two proofs can be compared line by line."""
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
