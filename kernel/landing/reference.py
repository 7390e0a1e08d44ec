"""Writes the reference pages that are made from code: `python -m kernel.landing.reference`.

They are docs/reference/landing.md, from the contracts, and docs/reference/shipped-mappings.md.
"""

from __future__ import annotations

from pathlib import Path

from kernel.landing import mapping
from kernel.landing.casting import columns_read
from kernel.landing.contracts import FACTS, Column, Fact

_FOLDER = Path(__file__).resolve().parents[2] / "docs" / "reference"

_INTRODUCTION = """\
# Landing contracts

A landing file holds rows of one fact and is named like it: `accounts.csv`, `accounts.csv.gz` or
`accounts.parquet`. The first line of a CSV file names its columns, in any order; optional ones may be left out.
Files that look otherwise are turned into these rows by a [mapping file](mapping.md).
This page is made from `kernel/landing/contracts.py` by `python -m kernel.landing.reference`.

* CSV is UTF-8, comma-separated, quoted with `"` where needed. An empty field is no value. A quote that is left open
  refuses the file, and so does a row of more than 16 MiB.
* A **timestamp** is ISO 8601, `2026-03-01T14:05:00Z` or with an offset; without one it is UTC. Days are counted
  in the tenant's time zone. A **date** is `2026-03-01` and is the tenant's business day already. Neither a part of
  one, such as `2026-03`, nor `today` is taken.
* What happened lies between 1970-01-01 and tomorrow. Planned days (`expected_close_date`, `start_date`,
  `end_date`) may lie up to 20 years ahead.
* **money** is a decimal number such as `1234.50`, exact to the last digit, never negative unless said; the type
  or reason gives the sign. An amount in another currency than the tenant reports in needs a rate of
  [fx_rates](#fx_rates) for its day, at most ten days older.
* Numbers are smaller than 1,000,000,000,000,000, whole numbers (**integer**) than 1,000,000,000,000. An amount has at
  most 9 decimals and a rate 12; any other number is 0 or at least 0.000000001. Keys and types have at most 500 bytes.
* **key of** a fact is the `source_key` of a row of that fact from the same source system, or from the one that
  `--reference-source` names. It has to be loaded before, or stand in the same folder.
* **`ingested_at`** is when the source handed the row over, not when the thing happened. Freshness is measured by
  it: `data_freshness_hours` asks how long ago each source last handed something over. Left out, it is the time of
  loading, so a file that waits for a week looks fresh on the day it is loaded. A row never replaces one that was
  handed over later: it counts as unchanged.
* What the words of choices and types mean, and which of them metrics count, stands in the
  [vocabulary](vocabulary.md).
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


_SHIPPED = """\
# Shipped mappings

What the mappings that come with the program read. A file is chosen by its name; of its columns only those listed
here are read, and each of them has to be there. Where a customer names things its own way, as stages of deals are,
copy the file from `kernel/landing/mappings/` to `mappings/` in the landing folder and edit it
([mapping files](mapping.md)). This page is made from the files by `python -m kernel.landing.reference`.

`hubspot`, `salesforce`, `stripe` and `google-ads` expect the tables that a Fivetran connector syncs, each written
to a CSV file with a header line: `copy deal to 'deal_data.csv' csv header`. Another connector names tables and
columns its own way: compare the header with the tables below before the first load, and try with `--dry-run`.
"""


def shipped_page() -> str:
    return "\n".join([_SHIPPED, *(_mapping_section(name) for name in mapping.shipped())])


def _mapping_section(name: str) -> str:
    made = mapping.load_mapping(name)
    lines = [f"## {name}", "", made.description.strip(), "", f"Source system `{made.source_system}`.", ""]
    lines += ["| File | Columns it needs | Gives |", "|---|---|---|"]
    for file in made.files:
        needed = set(file.occurrence_of or ()).union(*map(columns_read, file.outputs))
        columns = ", ".join(f"`{column}`" for column in sorted(needed))
        facts = dict.fromkeys(f"[{output.fact}](landing.md#{output.fact})" for output in file.outputs)
        lines.append(f"| `{file.pattern}` | {columns} | {', '.join(facts)} |")
    return "\n".join(lines) + "\n"


PAGES = {_FOLDER / "landing.md": page, _FOLDER / "shipped-mappings.md": shipped_page}

if __name__ == "__main__":
    for path, made in PAGES.items():
        path.write_text(made(), encoding="utf-8")
