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


ACCOUNTS = np.array([f"K{number:02}" for number in range(12)])


def shop(number: int) -> str:
    return f"shop{chr(97 + number // 26)}{chr(97 + number % 26)}"


LOOSE = frozenset(shop(number) for number in range(0, 60, 5))


def city(seed: int = 1, months: int = 6, lines: int = 700) -> pd.DataFrame:
    """Two tenants; four vendors in five always go to their own account, the fifth (LOOSE) to any of three."""
    random = np.random.default_rng(seed)
    parts = []
    for period in pd.date_range("2020-01-01", periods=months, freq="MS"):
        vendor = random.integers(0, 60, lines)
        account = ACCOUNTS[(vendor + np.where(vendor % 5 == 0, random.integers(0, 3, lines), 0)) % 12]
        names = [shop(each) for each in vendor]
        parts.append(
            pd.DataFrame(
                {
                    "tenant": np.where(vendor % 2, "north", "south"),
                    "txn": [f"{period:%Y%m}-{number:04}" for number in range(lines)],
                    "post_date": (period + pd.to_timedelta(np.sort(random.integers(0, 27, lines)), "D")).date,
                    "amount_minor": -random.integers(100, 90_000, lines),
                    "currency": "GBP",
                    "description": names,
                    "counterparty": "",
                    "vendor": names,
                    "card": random.integers(1000, 1009, lines).astype(str),
                    "bank_category": "",
                    "account": account,
                    "labelled_at": (period + pd.offsets.MonthBegin(1)).tz_localize("UTC"),
                    "period": period,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
