"""Bank lines with labels, as classifiers are given them, for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

VENDORS = {
    "tesco pfs 3953": "fuel", "esso aston": "fuel", "screwfix direct": "tools", "toolstation uk": "tools",
    "travelodge gb0000": "travel", "west coast trains": "travel", "argos ltd": "goods",
}  # fmt: skip
TENANT = "11111111-1111-1111-1111-111111111111"


def lines(*rows: tuple[str, str, str, str | None], tenant: str = TENANT, amount: int = -1250) -> pd.DataFrame:
    """Rows of (date, vendor, card, account); the label is known on the first day of the month after the line."""
    dates = pd.to_datetime([row[0] for row in rows])
    labelled = (dates.to_period("M") + 1).to_timestamp().tz_localize("UTC")
    frame = pd.DataFrame(
        {
            "tenant": tenant,
            "txn": [f"{tenant[:8]}-{number:06d}" for number in range(len(rows))],
            "post_date": dates.date,
            "amount_minor": amount,
            "currency": "GBP",
            "description": [row[1] for row in rows],
            "counterparty": "",
            "vendor": [row[1] for row in rows],
            "card": [row[2] for row in rows],
            "bank_category": "",
            "account": pd.Series([row[3] for row in rows], dtype=object),
        }
    )
    frame["labelled_at"] = pd.Series(labelled).where(frame["account"].notna(), pd.NaT)
    return frame


def year(*, seed: int = 7, a_month: int = 60, year: int = 2024) -> pd.DataFrame:
    """A year of two cards that buy from seven vendors; one card books every tenth line elsewhere."""
    generator = np.random.default_rng(seed)
    rows = []
    for month in range(1, 13):
        for _ in range(a_month):
            vendor = str(generator.choice(list(VENDORS)))
            card = str(generator.choice(["1111", "2222"]))
            account = "other" if card == "2222" and generator.random() < 0.1 else VENDORS[vendor]
            rows.append((f"{year}-{month:02d}-{generator.integers(1, 28):02d}", vendor, card, account))
    frame = lines(*rows)
    frame["amount_minor"] = -generator.integers(100, 20_000, len(frame))
    return frame
