"""The proof that is kept of a certification: one JSON file, sealed by the digest of its own content, and signed.

The seal shows that a file is as it was written, the signature who wrote it. Without one, keep it where only CI may write.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from kernel.errors import RefusedError
from quality.certification import signing
from quality.certification.prct.run import Report

FORMAT = 2
_FIELDS = ("started_at", "finished_at", "components", "checks", "verdict", "sha256", "signature")
_OF_THE_SEAL = ("sha256", "signature")
_OF_A_CHECK = ("id", "scenario", "what", "expected", "found", "passed")
_OF_A_COMPONENT = ("version", "sha256", "is_agreed")
# The ids of all checks, one a line. It changes in the commit that adds or takes away a check.
_KNOWN = Path(__file__).with_name("checks.txt")


def of(report: Report, facts: dict[str, Any] | None = None, key: Path | None = None) -> dict[str, Any]:
    """Everything that was checked, with `sha256` over the canonical form of all that, and the signature of `key` over it.

    `facts` are kept as they are. Without a key `signature` is None.
    """
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
    if facts is not None:
        content["facts"] = facts
    digest = _digest(content)
    return content | {"sha256": digest, "signature": signing.sign(digest, key) if key else None}


def write(content: dict[str, Any], path: Path) -> None:
    """Writes what `of` gave. Raises RefusedError when the file cannot be written."""
    try:
        path.write_text(_text(content), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be written ({error.strerror}): name another file") from None


def verify(path: Path) -> dict[str, Any]:
    """The content, when every byte is as it was written and verdicts follow from values. Raises RefusedError."""
    try:
        return _verified(path)
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be read ({error.strerror})") from None
    except RecursionError:
        raise RefusedError(f"{path.name} is no evidence: it is nested too deeply") from None
    except ValueError as error:
        raise RefusedError(f"{path.name} is no evidence: it is not JSON ({error})") from None


def differing(content: dict[str, Any], known_ids: Path = _KNOWN) -> list[str]:
    """The ids of checks that the evidence lacks, that are not in the file, or that it has more than once."""
    counted = Counter(check["id"] for check in content["checks"])
    known = set(known_ids.read_text(encoding="utf-8").split())
    return sorted({*(known ^ counted.keys()), *(id_ for id_, times in counted.items() if times > 1)})


def _verified(path: Path) -> dict[str, Any]:
    text = path.read_bytes().decode()
    content = json.loads(text)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RefusedError(f"{path.name} is no evidence of format {FORMAT}: make it with revenue-os certify")
    if lacking := _lacking(content):
        raise RefusedError(f"{path.name} is no evidence: {lacking}; make it with revenue-os certify")
    if content["sha256"] != _digest(content) or text != _text(content):
        raise RefusedError(
            f"{path.name} was changed after it was written: its content does not give its sha256"
        )
    if content["signature"] is not None:
        signing.expect(content["signature"], content["sha256"])
    checks = content["checks"]
    wrong = [check["id"] for check in checks if check["passed"] != (check["expected"] == check["found"])]
    passed = bool(checks) and all(check["passed"] for check in checks)
    if wrong or content["verdict"] != ("passed" if passed else "failed"):
        raise RefusedError(
            f"{path.name}: its verdicts do not follow from what was found ({', '.join(wrong) or 'verdict'})"
        )
    return content


def _lacking(content: dict[str, Any]) -> str | None:
    """What the content lacks to be evidence, or None."""
    if absent := [name for name in _FIELDS if name not in content]:
        return f"it has no {absent[0]}"
    checks, components = content["checks"], content["components"]
    if not isinstance(checks, list) or not all(_has(check, _OF_A_CHECK) for check in checks):
        return f"checks must be a list of objects with {', '.join(_OF_A_CHECK)}"
    if not all(isinstance(check["id"], str) for check in checks):
        return "the id of a check must be text"
    if not isinstance(components, dict) or not all(
        _has(each, _OF_A_COMPONENT) for each in components.values()
    ):
        return f"components must be an object of objects with {', '.join(_OF_A_COMPONENT)}"
    return None


def _has(record: Any, names: tuple[str, ...]) -> bool:
    return isinstance(record, dict) and all(name in record for name in names)


def _digest(content: dict[str, Any]) -> str:
    """Over everything but the seal itself."""
    unsealed = {name: value for name, value in content.items() if name not in _OF_THE_SEAL}
    canonical = json.dumps(unsealed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _text(content: dict[str, Any]) -> str:
    """Sorted and indented, so that two proofs can be compared line by line."""
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
