"""Writes docs/reference/landing.md from the contracts: `python -m kernel.landing.reference`."""

from __future__ import annotations

from pathlib import Path

from kernel.landing.contracts import FACTS, Column, Fact

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "landing.md"

_INTRODUCTION = """\
# Landing contracts

A landing file holds rows of one fact and is named like it: `accounts.csv`, `accounts.csv.gz` or
`accounts.parquet`. The first line of a CSV file names its columns, in any order; optional ones may be left out.
Files that look otherwise are turned into these rows by a [mapping file](mapping.md).
This page is made from `kernel/landing/contracts.py` by `python -m kernel.landing.reference`.

* CSV is UTF-8, comma-separated, quoted with `"` where needed. An empty field is no value.
* A **timestamp** is ISO 8601, `2026-03-01T14:05:00Z` or with an offset; without one it is UTC. Days are counted
  in the tenant's time zone. A **date** is `2026-03-01` and is the tenant's business day already.
* What happened lies between 1970-01-01 and tomorrow. Planned days (`expected_close_date`, `start_date`,
  `end_date`) may lie up to 20 years ahead.
* **money** is a decimal number such as `1234.50`, exact to the last digit, never negative unless said; the type
  or reason gives the sign. An amount in another currency than the tenant reports in needs a rate of
  [fx_rates](#fx_rates) for its day, at most ten days older.
* **key of** a fact is the `source_key` of a row of that fact from the same source system. It has to be loaded
  before, or stand in the same folder.
* A row is **known by** the columns named so. When it comes again it replaces what is stored, and the version
  before is kept; when nothing differs, nothing changes. Left-out columns keep what is stored.
"""


def page() -> str:
    listed = "\n".join(f"* [{fact.name}](#{fact.name}): {_lower(fact.meaning)}" for fact in FACTS.values())
    order = f"## Facts\n\nIn the order in which a folder is loaded.\n\n{listed}\n"
    return "\n".join([_INTRODUCTION, order, *map(_section, FACTS.values())])


def _section(fact: Fact) -> str:
    known_by = ", ".join(f"`{name}`" for name in fact.identity)
    within = " within its source system" if fact.by_source else ""
    lines = [
        f"## {fact.name}",
        "",
        f"{fact.meaning} Known by {known_by}{within}; stored in `{fact.table}`.",
        "",
    ]
    lines += ["| Column | Type | Needed | Meaning |", "|---|---|---|---|"]
    lines += [_line(column) for column in fact.columns]
    lines += ["", *(f"`{rule.field}`: {rule.why}." for rule in fact.rules)]
    return "\n".join(lines).rstrip() + "\n"


def _line(column: Column) -> str:
    kind = f"key of [{column.refers_to}](#{column.refers_to})" if column.refers_to else column.kind
    meaning = column.meaning
    if column.choices:
        meaning += f": {', '.join(f'`{choice}`' for choice in column.choices)}"
    if column.default is not None:
        meaning += f" (`{column.default}` when empty)"
    return f"| `{column.name}` | {kind} | {'yes' if column.required else ''} | {meaning} |"


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
