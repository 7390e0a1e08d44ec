"""The tables inside docs/specs and the published JSON Schemas, made from code and data, so that neither can drift.

A specification holds `<!-- table: NAME -->` ... `<!-- end -->`; what stands between is generated here. The prose
around it is written by people.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from kernel.decisions import contract
from kernel.errors import RefusedError
from models import rls
from models import vocabulary as words
from models.every import metadata

FOLDER = Path("docs/specs")
_SCHEMAS: dict[str, type[BaseModel]] = {
    "kernel-input.json": contract.KernelInput,
    "kernel-output.json": contract.KernelOutput,
}
_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def check(root: Path) -> list[str]:
    """The files that are not what code and data say; empty when all agree."""
    return [
        file.name
        for file, text in _rendered(root)
        if not file.exists() or file.read_text(encoding="utf-8") != text
    ]


def write(root: Path) -> list[str]:
    """Brings every table up to date; gives the files that changed."""
    changed = check(root)
    for file, text in _rendered(root):
        if file.name in changed:
            file.write_text(text, encoding="utf-8")
    return changed


def _rendered(root: Path) -> Iterable[tuple[Path, str]]:
    for file in sorted((root / FOLDER).glob("*.md")):
        text = file.read_text(encoding="utf-8")
        yield file, _TABLE.sub(lambda found: found[1] + _table(root, found["name"]) + found[3], text)
    for name, record in _SCHEMAS.items():
        schema = json.dumps(record.model_json_schema(), indent=1, sort_keys=True)
        yield root / "docs/reference" / name, schema + "\n"


def _table(root: Path, name: str) -> str:
    if name not in _MADE:
        raise RefusedError(f"no table is called {name}: choose one of {', '.join(_MADE)}")
    header, rows = _MADE[name](root)
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


_Made = tuple[tuple[str, ...], list[tuple[Any, ...]]]


def _fields(record: type[BaseModel]) -> Callable[[Path], _Made]:
    def made(_root: Path) -> _Made:
        schema = record.model_json_schema()
        rows = [
            (f"`{name}`", _type(shape), "yes" if name in schema.get("required", ()) else "no", _limits(shape))
            for name, shape in schema["properties"].items()
        ]
        return ("field", "type", "required", "limits"), rows

    return made


def _type(shape: dict[str, Any]) -> str:
    if "$ref" in shape:
        return shape["$ref"].rsplit("/", 1)[1]
    if "anyOf" in shape:
        kinds = dict.fromkeys(_type(each) for each in shape["anyOf"])
        return (
            "number"
            if set(kinds) <= {"number", "string", "null"} and "number" in kinds
            else " or ".join(kinds)
        )
    if shape.get("type") == "array":
        return f"list of {_type(shape['items'])}" if "items" in shape else "list"
    return shape.get("format") or shape.get("type") or ("text" if "enum" in shape else "any")


_LIMITS = {
    "minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<",
    "minLength": "length >=", "maxItems": "items <=", "minItems": "items >=",
}  # fmt: skip


def _limits(shape: dict[str, Any]) -> str:
    parts = [shape, *shape.get("anyOf", ())]
    said = [f"{sign} {part[name]:g}" for part in parts for name, sign in _LIMITS.items() if name in part]
    said += [", ".join(part["enum"]) for part in [*parts, shape.get("items", {})] if "enum" in part]
    said += [f"always `{part['const']}`" for part in parts if "const" in part]
    return "; ".join(said)


def _errors(_root: Path) -> _Made:
    return ("code", "HTTP"), [
        (f"`{code}`", contract.HTTP_STATUS[code]) for code in get_args(contract.ErrorCode)
    ]


def _metrics(root: Path) -> _Made:
    with (root / "dbt/seeds/metric_definitions.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            (
                f"`{row['metric_id']}`",
                row["domain"],
                row["unit"],
                row["direction"],
                row["window_days"],
                row["null_rule"],
            )
            for row in csv.DictReader(file)
        ]
    return ("metric", "domain", "unit", "better", "days", "when it is not known"), rows


def _aliases(root: Path) -> _Made:
    with (root / "dbt/seeds/metric_aliases.csv").open(encoding="utf-8", newline="") as file:
        return ("alias", "stands for"), [
            (f"`{row['alias']}`", f"`{row['metric_id']}`") for row in csv.DictReader(file)
        ]


def _tables(_root: Path) -> _Made:
    rows = []
    for table in metadata.sorted_tables:
        key = ", ".join(column.name for column in table.primary_key)
        rows.append((f"`{table.fullname}`", key, "own rows, reading"))
    return ("table", "key", f"`{rls.MEMBER}`"), sorted(rows)


def _matrix(_root: Path) -> _Made:
    from kernel.actions.matrix import MATRIX

    rows = [
        (kind, *("yes" if subsystem in MATRIX[kind] else "-" for subsystem in words.SUBSYSTEMS))
        for kind in words.ACTION_TYPES
    ]
    return ("type", *words.SUBSYSTEMS), rows


def _changeable(_root: Path) -> _Made:
    from kernel.actions.matrix import FIELDS

    rows = [
        (subsystem, f"`{name}`", field.rule, ", ".join(field.entities))
        for subsystem, fields in FIELDS.items()
        for name, field in fields.items()
    ]
    return ("subsystem", "field", "must be", "of"), rows


def _transitions(_root: Path) -> _Made:
    from kernel.actions.lifecycle import TRANSITIONS

    rows = [
        (f"`{status}`", ", ".join(f"`{to}`" for to in sorted(TRANSITIONS.get(status, ()))) or "(final)")
        for status in words.EXECUTION_STATUSES
    ]
    return ("execution status", "may become"), rows


_MADE: dict[str, Callable[[Path], _Made]] = {
    "input": _fields(contract.KernelInput),
    "reading": _fields(contract.Reading),
    "output": _fields(contract.KernelOutput),
    "summary": _fields(contract.CycleSummary),
    "action": _fields(contract.Action),
    "attributes": _fields(contract.Attributes),
    "errors": _errors,
    "metrics": _metrics,
    "aliases": _aliases,
    "tables": _tables,
    "matrix": _matrix,
    "fields": _changeable,
    "transitions": _transitions,
}
