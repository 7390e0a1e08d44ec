"""Birmingham's purchase cards as one frame of labelled bank lines, in the columns classifiers are given.

Reading and naming only: what is learnt from the frame stands in `ml`, how it is replayed in `bench.books`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from kernel.books.vendors import normalise
from kernel.errors import RefusedError

_TENANTS = Path(__file__).with_name("birmingham_tenants.json")
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_OLD_CHART = re.compile(r"[A-Z][0-9A-Z]{3}")
_CONTENT = ["post_date", "amount_minor", "currency", "description", "card"]
_READ = {
    "SOURCE FILE": "file", "SOURCE ROW": "row", "TRANS DATE": "date", "ORIGINAL GROSS AMT": "original",
    "ORIGINAL CUR": "original_currency", "BILLING GROSS AMT": "billed", "BILLING CUR CODE": "billed_currency",
    "MERCHANT NAME": "description", "CARD NUMBER": "card", "TRANS CAC CODE 1": "account",
    "DIRECTORATE": "directorate",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of the files became lines, and why the others did not; each row is counted once, in this order."""

    rows: int
    no_date: int
    no_merchant: int
    no_label: int
    other_chart: int
    no_tenant: int
    published_again: int
    lines: int


def decided(month: pd.Timestamp) -> datetime:
    """When the lines of a month are decided: before it ends, and its labels are known when the next begins."""
    return ((month + pd.offsets.MonthBegin(1)).tz_localize("UTC") - timedelta(hours=1)).to_pydatetime()


def birmingham(folder: Path) -> tuple[pd.DataFrame, Counts]:
    """Lines in the order in which they became known, with `period` (the first day of their month) beside the columns
    of a labelled frame.

    A line belongs to the later of the month it is dated in and the month whose file published it; its label is known
    on the first day of the next. Amounts are as the card sees them: spending is negative. Of lines that two files
    have in common the first is kept. Raises RefusedError for a folder without such files.
    """
    files = sorted(folder.glob("birmingham-pcard-*.csv.gz"))
    if not files:
        raise RefusedError(f"{folder} has no birmingham-pcard-YEAR.csv.gz: name the folder of the files")
    raw = pd.concat([_read(path) for path in files], ignore_index=True)
    tenants = {name: tenant for tenant, names in json.loads(_TENANTS.read_text()).items() for name in names}
    raw["tenant"] = raw["directorate"].str.strip().str.lower().map(tenants)
    raw["post_date"] = pd.to_datetime(raw["date"], format="%Y-%m-%d", errors="coerce")
    raw["description"] = raw["description"].str.strip()

    dropped, left = {}, raw
    for reason, bad in (
        ("no_date", lambda rows: rows["post_date"].isna()),
        ("no_merchant", lambda rows: rows["description"].fillna("").eq("")),
        ("no_label", lambda rows: rows["account"].isna()),
        ("other_chart", lambda rows: ~rows["account"].str.fullmatch(_OLD_CHART.pattern)),
        ("no_tenant", lambda rows: rows["tenant"].isna()),
    ):
        refused = bad(left)
        dropped[reason] = int(refused.sum())
        left = left[~refused]
    lines = _lines(left)
    again = lines.duplicated([*_CONTENT, "occurrence"])
    lines = lines[~again].drop(columns="occurrence").reset_index(drop=True)
    return lines, Counts(rows=len(raw), published_again=int(again.sum()), lines=len(lines), **dropped)


def _read(path: Path) -> pd.DataFrame:
    read = pd.read_csv(path, dtype=str, usecols=list(_READ), keep_default_na=False, na_values=[""])
    return read.rename(columns=_READ)


def _lines(rows: pd.DataFrame) -> pd.DataFrame:
    published = rows["file"].str.extract(r"-(?P<month>[a-z]+)-(?P<year>\d{4})\.")
    number = published["month"].map({name: at for at, name in enumerate(_MONTHS, start=1)})
    of_file = pd.to_datetime({"year": published["year"].astype(int), "month": number, "day": 1})
    of_date = rows["post_date"].dt.to_period("M").dt.to_timestamp()
    period = of_file.where(of_file > of_date, of_date)
    billed = rows["billed"].notna()
    amount = rows["billed"].where(billed, rows["original"]).astype(float)
    names = {name: normalise(name) for name in rows["description"].unique()}
    lines = pd.DataFrame(
        {
            "tenant": rows["tenant"],
            "txn": rows["file"] + ":" + rows["row"],
            "post_date": rows["post_date"].dt.date,
            "amount_minor": -(amount * 100).round().astype("int64"),
            "currency": rows["billed_currency"].where(billed, rows["original_currency"]),
            "description": rows["description"],
            "counterparty": "",
            "vendor": rows["description"].map(names),
            "card": rows["card"].str[-4:],
            "bank_category": "",
            "account": rows["account"],
            "labelled_at": (period + pd.offsets.MonthBegin(1)).dt.tz_localize("UTC"),
            "period": period,
        }
    )
    lines["occurrence"] = lines.groupby([rows["file"], *_CONTENT], sort=False).cumcount()
    order = pd.DataFrame(
        {"period": period, "post_date": rows["post_date"], "file": of_file, "row": rows["row"].astype(int)}
    )
    return lines.loc[order.sort_values(["period", "post_date", "file", "row"], kind="stable").index]
