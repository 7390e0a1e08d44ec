"""Frozen components: what they are, their digests, and the rule for changing one.

A frozen component changes together with its specification, its version and a line in the changelog, or not at all.
`docs/specs/frozen.json` holds what was agreed last; `check` compares, `record` writes a change that follows the rule.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import RefusedError

RECORD = Path("docs/specs/frozen.json")
CHANGELOG = Path("CHANGELOG.md")


@dataclass(frozen=True, slots=True)
class Component:
    """Files by pattern from the repository's root, and the specification that describes them."""

    name: str
    files: tuple[str, ...]
    specification: str


COMPONENTS = (
    Component(
        "kernel",
        (
            "kernel/decisions/contract.py",
            "kernel/decisions/gates.py",
            "kernel/decisions/constraint.py",
            "kernel/decisions/scoring.py",
            "kernel/decisions/acknowledgment.py",
            "kernel/decisions/decide.py",
            "kernel/decisions/candidates/*.py",
        ),
        "docs/specs/kernel-io-contract.md",
    ),
    Component(
        "executors",
        ("kernel/actions/matrix.py", "kernel/actions/lifecycle.py", "kernel/actions/dispatch.py", "kernel/actions/settlement.py", "kernel/actions/executors/*.py"),
        "docs/specs/action-executor-map.md",
    ),
    Component(
        "metrics",
        ("dbt/seeds/metric_definitions.csv", "dbt/seeds/metric_aliases.csv"),
        "docs/specs/canonical-metrics.md",
    ),
    Component(
        "spine",
        ("models/spine.py", "models/decisions.py", "models/vocabulary.py", "models/rls.py"),
        "docs/specs/rls-tenant-checklist.md",
    ),
    Component(
        "delivery",
        (
            "models/delivery.py", "models/migrations/versions/0008_delivery.py", "models/migrations/versions/0009_due_jobs.py",
            "models/migrations/versions/0010_waits_of_jobs.py", "models/migrations/versions/0011_prices_tests_plain_text.py",
            "models/migrations/versions/0013_what_may_be_sent_now.py", "models/migrations/versions/0014_addresses.py",
            "kernel/delivery/keys.py", "kernel/delivery/rollup.py",
            "kernel/delivery/providers/base.py",
        ),
        "docs/reference/delivery.md",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """One component as it is (`digest`) and as it was agreed (`agreed`, None before the first record)."""

    component: Component
    version: str
    digest: str
    specification_digest: str
    agreed: str | None

    @property
    def is_changed(self) -> bool:
        return self.digest != self.agreed


def states(root: Path) -> list[State]:
    known = _known(root)
    return [
        State(
            component,
            known.get(component.name, {}).get("version", "-"),
            _digest(root, component),
            _file_digest(root / component.specification),
            known.get(component.name, {}).get("digest"),
        )
        for component in COMPONENTS
    ]


def check(root: Path) -> list[State]:
    """Every component's state. Raises RefusedError naming the changed ones and what each still needs."""
    found = states(root)
    changed = [state for state in found if state.is_changed]
    if changed:
        listed = "; ".join(
            f"{state.component.name} changed: update {state.component.specification}, add a changelog line"
            f" '{_line(state.component.name, 'X.Y')}', then revenue-os certify freeze --record"
            f" {state.component.name} --version X.Y"
            for state in changed
        )
        raise RefusedError(f"frozen components differ from what was agreed. {listed}")
    return found


def record(root: Path, name: str, version: str) -> State:
    """Agrees to a component as it is now, under a new version.

    Raises RefusedError when the version is not higher, the specification is as before, or the changelog is silent.
    """
    state = next((state for state in states(root) if state.component.name == name), None)
    if state is None:
        raise RefusedError(f"{name} is no frozen component: choose {', '.join(c.name for c in COMPONENTS)}")
    if not re.fullmatch(r"\d+\.\d+", version):
        raise RefusedError(f"version {version!r} is not like 1.2")
    known = _known(root)
    before = known.get(name)
    if before and _number(version) <= _number(before["version"]):
        raise RefusedError(f"{name} stands at {before['version']}: {version} is not higher")
    if before and before["specification_digest"] == state.specification_digest:
        raise RefusedError(f"{state.component.specification} is as it was: describe the change there first")
    if _line(name, version) not in (root / CHANGELOG).read_text(encoding="utf-8"):
        raise RefusedError(
            f"{CHANGELOG} has no line with '{_line(name, version)}': add one that says what changed"
        )
    known[name] = {
        "version": version,
        "digest": state.digest,
        "specification": state.component.specification,
        "specification_digest": state.specification_digest,
    }
    (root / RECORD).write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return next(state for state in states(root) if state.component.name == name)


def _line(name: str, version: str) -> str:
    return f"frozen {name} {version}"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _known(root: Path) -> dict[str, dict[str, str]]:
    file = root / RECORD
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _digest(root: Path, component: Component) -> str:
    total = hashlib.sha256()
    for pattern in component.files:
        files = sorted(root.glob(pattern))
        if not files:
            raise RefusedError(f"frozen component {component.name}: no file matches {pattern}")
        for file in files:
            total.update(f"{file.relative_to(root)}\n".encode())
            total.update(_content(file))
    return total.hexdigest()


def _content(file: Path) -> bytes:
    """A module without comments, docstrings and layout, which may change freely; other files as they are."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text.encode()
    return repr(_shape(ast.parse(text))).encode()


def _shape(part: object) -> object:
    """What a syntax tree says, alike in every version of Python: empty fields left out, docstrings too."""
    if isinstance(part, list):
        return [_shape(each) for each in part]
    if not isinstance(part, ast.AST):
        return part
    fields = dict(ast.iter_fields(part))
    if isinstance(part, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(part) is not None:
        fields["body"] = fields["body"][1:]
    given = {name: _shape(value) for name, value in fields.items() if value not in (None, [])}
    return type(part).__name__, sorted(given.items())


def _file_digest(file: Path) -> str:
    if not file.exists():
        raise RefusedError(f"{file.name} is missing: every frozen component has its specification")
    return hashlib.sha256(file.read_bytes()).hexdigest()
