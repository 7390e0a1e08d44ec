"""The plain result of validating a frame, free of the library that did it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One expectation that did not hold. `blocking` says whether anything that acts must wait."""

    expectation: str
    column: str
    blocking: bool
    unexpected: int
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    rows: int
    evaluated: int
    findings: tuple[Finding, ...]

    @property
    def blocked(self) -> bool:
        return any(finding.blocking for finding in self.findings)

    def as_markdown(self) -> str:
        if not self.findings:
            return "Every expectation holds."
        lines = ["| column | expectation | rows | detail |", "|---|---|---|---|"]
        lines += [f"| {f.column} | {f.expectation} | {f.unexpected} | {f.detail} |" for f in self.findings]
        return "\n".join(lines)
