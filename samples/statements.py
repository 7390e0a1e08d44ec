"""Bank and card statements of small businesses with what is true of each line: the same for the same arguments.

How vendors are booked stands in `statement_vendors`, how banks write files in `statement_files`.
"""

from __future__ import annotations

import bisect
import calendar
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from samples.draw import Streams
from samples.statement_files import Account, Format, Line, StatementFile, written
from samples.statement_vendors import (
    CARDS,
    CATEGORIES,
    CHECKING,
    CREDIT,
    KNOWN,
    LARGE,
    PLACES,
    RECURRING,
    SALES,
    TOWNS,
    TRADES,
    TRANSFER,
    WIRE_FEE,
    Coding,
    Vendor,
)

RIGHT = 0.99  # of the labels; people err
OVERLAP_DAYS = 5  # of a month that the next file tells of again
_ARRIVING = 0.05  # of the vendors, new each month
_REPEATED = _REFUNDED = 0.03  # of the purchases
_BRANDS_LIKED = 0.6  # spread of how much more a business uses one vendor than another
_CARD_NAME = 22  # characters that a card network leaves of a name
_PROFIT = 1.08  # of what goes out in a month
_ACCOUNTS: tuple[Account, ...] = ("checking", "card")
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_BAD_MONTH, _CAMT_MONTH, _MT940_MONTH = 1, 2, 3  # of checking, counted from 0


@dataclass(frozen=True, slots=True)
class Profile:
    """Counts are by month, `scale` multiplies what recurs, and balances are in cents. It begins with a month."""

    name: str
    company: str
    first: date
    months: int
    purchases: int
    sales: int
    recurring: int
    scale: float
    checking_minor: int
    card_minor: int


# Enough checked lines to promise something of them, and not enough.
BUSY = Profile(
    "juniper-supply", "Juniper Supply", date(2025, 1, 1), 14, 215, 46, 14, 1.0, 6_500_000, -310_000
)
SMALL = Profile("fox-bindery", "Fox Bindery", date(2025, 11, 1), 4, 14, 7, 6, 0.3, 900_000, -45_000)


@dataclass(frozen=True, slots=True)
class Sample:
    """`files` in the order in which banks hand them over; `truth` by account and in the order of booking."""

    profile: Profile
    files: tuple[StatementFile, ...]
    truth: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Drawn:
    account: Account
    on: date
    minor: int
    text: str
    vendor: str
    category: str
    card: str = ""


def statements(profile: Profile, months: int, seed: int) -> Sample:
    """That many months from the profile's first, a file of each account for each. More months add files and lines.

    Raises ValueError for a profile that begins within a month, and for no months.
    """
    if profile.first.day != 1 or months < 1:
        raise ValueError(
            f"sample statements begin with a month and cover one at least: {profile.first}, {months}"
        )
    streams = Streams(seed, profile.name)
    days = [_business_days(_month(profile.first, number)) for number in range(months)]
    drawn = [*_purchases(streams, profile, days)]
    drawn = [*drawn, *_repeats(streams, drawn, days), *_refunds(streams, drawn, days)]
    drawn = [*drawn, *_recurring(streams, profile, days), *_rare(streams, profile, days)]
    drawn = [*drawn, *_sales(streams, profile, days, drawn)]
    drawn = [*drawn, *_transfers(profile, days, drawn)]
    truth = tuple(_lines(streams, drawn))
    return Sample(profile, tuple(_files(profile, months, truth)), truth)


def _month(first: date, number: int) -> date:
    year, month = divmod(first.year * 12 + first.month - 1 + number, 12)
    return date(year, month + 1, 1)


def _last(month: date) -> date:
    return month.replace(day=calendar.monthrange(month.year, month.month)[1])


def _business_days(month: date) -> list[date]:
    every = (month.replace(day=day) for day in range(1, _last(month).day + 1))
    return [day for day in every if day.weekday() < 5]


def _near(days: Sequence[date], day: int) -> date:
    """That day of the month or the next on which banks work; the last where there is none."""
    return next((each for each in days if each.day >= day), days[-1])


# What is bought, where, and how it looks on a statement.


def _vendors(streams: Streams, months: int) -> list[list[Vendor]]:
    """The vendors of each month: as many of the town as are known everywhere, and new ones every month."""
    rng = streams.of("vendors")
    names = rng.permutation(len(PLACES) * len(TRADES))
    liked = [replace(each, weight=each.weight * rng.lognormal(0, _BRANDS_LIKED)) for each in KNOWN]
    known = [liked + [_firm(rng, names[number]) for number in range(len(liked))]]
    arriving = round(len(known[0]) * _ARRIVING)
    for month in range(1, months):
        begin = len(liked) + (month - 1) * arriving
        known.append(known[-1] + [_firm(rng, number) for number in names[begin : begin + arriving]])
    return known


def _firm(rng: np.random.Generator, number: int) -> Vendor:
    place, trade = PLACES[number // len(TRADES)], TRADES[number % len(TRADES)]
    form = ("square", "plain", "shop")[rng.choice(3, p=(0.45, 0.35, 0.2))]
    return Vendor(f"{place} {trade.name}", Coding(trade.category), trade.cents, weight=rng.lognormal(-0.6, 0.6), form=form)  # fmt: skip


def _purchases(streams: Streams, profile: Profile, days: list[list[date]]) -> Iterator[_Drawn]:
    rng, liked = streams.of("purchases"), streams.of("shops")
    shops: dict[str, list[str]] = {}
    seen = 0
    for number, (open_days, vendors) in enumerate(zip(days, _vendors(streams, len(days)), strict=True)):
        weight = np.array([vendor.weight for vendor in vendors])
        # A new one has a line in its first month, or it would not be known of; a small business knows of few.
        new = range(seen, len(vendors))[: profile.purchases // 5] if number else ()
        drawn = rng.choice(len(vendors), profile.purchases - len(new), p=weight / weight.sum())
        seen = len(vendors)
        for place in (*new, *drawn):
            vendor = vendors[place]
            if vendor.name not in shops:
                shops[vendor.name] = [
                    f"#{liked.integers(10, 9_999):04} {TOWNS[liked.integers(len(TOWNS))]}" for _ in range(3)
                ]
            shop = shops[vendor.name][rng.choice(3, p=(0.7, 0.2, 0.1))]
            yield _purchase(rng, vendor, open_days[rng.integers(len(open_days))], number + 1, shop)


def _purchase(rng: np.random.Generator, vendor: Vendor, on: date, month: int, shop: str) -> _Drawn:
    by_checking = rng.random() < {"checking": 1.0, "both": 0.4, "card": 0.0}[vendor.paid]
    card = CARDS[int(rng.random() < 0.35)] if by_checking else ""
    cents = int(rng.choice(vendor.prices)) if vendor.prices else max(100, round(rng.lognormal(np.log(vendor.cents), 0.5)))  # fmt: skip
    text = _text(rng, vendor, shop)
    if by_checking:
        text = f"{'POS PURCHASE' if rng.random() < 0.7 else 'DEBIT PURCHASE'} {text} ****{card}"
    else:
        text = text[:_CARD_NAME].rstrip()
    category = vendor.coding.category(cents, card, month, rng.random())
    return _Drawn("checking" if by_checking else "card", on, -cents, text, vendor.name, category, card)


def _text(rng: np.random.Generator, vendor: Vendor, shop: str) -> str:
    if vendor.form == "order":
        return f"{vendor.name}*{''.join(_LETTERS[number] for number in rng.integers(0, len(_LETTERS), 9))}"
    town = shop.partition(" ")[2]
    return {
        "shop": f"{vendor.name} {shop}", "square": f"SQ *{vendor.name} {town}", "plain": vendor.name,
    }[vendor.form]  # fmt: skip


def _repeats(streams: Streams, bought: Sequence[_Drawn], days: list[list[date]]) -> list[_Drawn]:
    """The same thing once more on the same day: two coffees are two."""
    rng = streams.of("repeats")
    priced = {vendor.name for vendor in KNOWN if vendor.prices and not vendor.coding.other}
    found: list[_Drawn] = []
    for open_days in days:
        here = [each for each in bought if open_days[0] <= each.on <= open_days[-1]]
        of_fixed_price = [each for each in here if each.vendor in priced] or here
        times = max(1, round(len(here) * _REPEATED))
        found += [of_fixed_price[number] for number in rng.integers(0, len(of_fixed_price), times)]
    return found


def _refunds(streams: Streams, bought: Sequence[_Drawn], days: list[list[date]]) -> Iterator[_Drawn]:
    """Of what was bought for more than twenty: the whole or a part, some days later, to where it was paid from."""
    rng = streams.of("refunds")
    every = [day for open_days in days for day in open_days]
    for each in bought:
        if each.minor > -2_000 or rng.random() >= _REFUNDED:
            continue
        later = bisect.bisect_left(every, each.on + timedelta(days=int(rng.integers(3, 13))))
        share = 1.0 if rng.random() < 0.6 else rng.uniform(0.2, 0.8)
        if later < len(every):
            yield replace(each, on=every[later], minor=round(-each.minor * share))


# What comes every month, what comes rarely, and what moves between the accounts.


def _recurring(streams: Streams, profile: Profile, days: list[list[date]]) -> Iterator[_Drawn]:
    rng = streams.of("recurring")
    for number, open_days in enumerate(days):
        winter = np.cos((open_days[0].month - 1) / 6 * np.pi)
        for each in RECURRING[: profile.recurring]:
            factor = profile.scale * (1 + each.drift / 100) ** number * (1 + each.season * winter)
            cents = round(each.cents * factor * rng.lognormal(0, each.spread))
            text = _numbered(rng, each.text)
            yield _Drawn(
                each.account, _near(open_days, each.day), -cents, text, _vendor(each.text), each.category
            )


def _numbered(rng: np.random.Generator, text: str) -> str:
    return text.replace("#", str(rng.integers(1_000_000, 9_999_999)))


def _vendor(text: str) -> str:
    return text.removesuffix(" #")


def _rare(streams: Streams, profile: Profile, days: list[list[date]]) -> Iterator[_Drawn]:
    """Every fourth month, from the second on, something dear; in between a fee for a wire."""
    rng = streams.of("rare")
    for number, open_days in enumerate(days):
        on = open_days[rng.integers(len(open_days))]
        if number % 4 == 1:
            cents = round(LARGE.cents * profile.scale * rng.uniform(0.7, 1.6))
            yield _Drawn("checking", on, -cents, LARGE.name, LARGE.name, LARGE.coding.usual)
        elif number % 2 == 0:
            text, category, cents = WIRE_FEE
            yield _Drawn("checking", on, -cents, text, text, category)


def _sales(
    streams: Streams, profile: Profile, days: list[list[date]], out: Sequence[_Drawn]
) -> Iterator[_Drawn]:
    """Deposits, which come to somewhat more than what the month costs."""
    rng = streams.of("sales")
    for open_days in days:
        cost = -sum(each.minor for each in out if open_days[0] <= each.on <= open_days[-1])
        weight = rng.lognormal(0, 0.5, profile.sales)
        for share in weight / weight.sum():
            text = SALES[rng.choice(len(SALES), p=[each for _, each in SALES])][0]
            on = open_days[rng.integers(len(open_days))]
            yield _Drawn("checking", on, max(1, round(cost * _PROFIT * share)), _numbered(rng, text), _vendor(text), "sales")  # fmt: skip


def _transfers(profile: Profile, days: list[list[date]], drawn: Sequence[_Drawn]) -> Iterator[_Drawn]:
    """What the card's last statement asks for is paid on the 20th; every third month something before it."""
    paid = 0
    for number, open_days in enumerate(days):
        owed = -profile.card_minor - paid
        owed -= sum(
            each.minor for each in drawn if each.account == "card" and each.on < open_days[0].replace(day=1)
        )
        early = owed // 3 // 10_000 * 10_000 if number % 3 == 2 else 0
        for day, cents, sent, came in (
            (8, early, f"ONLINE TRANSFER TO CARD ****{CREDIT}", f"TRANSFER FROM CHECKING ****{CHECKING}"),
            (20, owed - early, f"CREDIT CARD AUTOPAY ****{CREDIT}", "AUTOPAY PAYMENT THANK YOU"),
        ):
            if cents <= 0:
                continue
            paid += cents
            on = _near(open_days, day)
            next_day = open_days[open_days.index(on) + 1]
            yield _Drawn("checking", on, -cents, sent, sent, TRANSFER)
            yield _Drawn("card", next_day, cents, came, came, TRANSFER)


# Lines in the order of booking, and files of them.


def _lines(streams: Streams, drawn: Sequence[_Drawn]) -> Iterator[Line]:
    times: Counter[tuple[str, date, int, str]] = Counter()
    first: dict[tuple[str, date, int, str], str] = {}
    for account in _ACCOUNTS:
        rng = streams.of(f"labels {account}")
        booked = [each for each in drawn if each.account == account]
        # Within a day in no order that tells anything, and in the same however many months there are.
        booked.sort(key=lambda each: (each.on, zlib.crc32(f"{each.text} {each.minor}".encode())))
        for number, each in enumerate(booked):
            key = (account, each.on, each.minor, each.text)
            times[key] += 1
            # Nobody could tell equal lines apart, so they are one thing.
            category = first.setdefault(key, each.category)
            ref = f"{each.on:%Y%m%d}{number:06}" if account == "card" else None
            label = category if rng.random() < RIGHT else _mistaken(rng, category)
            yield Line(
                account,
                each.on,
                each.minor,
                each.text,
                times[key],
                ref,
                each.card,
                each.vendor,
                category,
                label,
            )


def _mistaken(rng: np.random.Generator, category: str) -> str:
    others = [each for each in CATEGORIES if each not in (category, "sales", TRANSFER)]
    return others[rng.integers(len(others))]


def _files(profile: Profile, months: int, lines: Sequence[Line]) -> Iterator[StatementFile]:
    opening = {"checking": profile.checking_minor, "card": profile.card_minor}
    for number in range(months):
        first = _month(profile.first, number)
        last = _last(first)
        for account, balance in opening.items():
            format = _format(account, number)
            # Another format may tell the same otherwise: only files of one overlap.
            overlaps = number > 0 and _format(account, number - 1) == format
            begins = first - timedelta(days=OVERLAP_DAYS) if overlaps else first
            of_account = [line for line in lines if line.account == account]
            before = balance + sum(line.amount_minor for line in of_account if line.on < begins)
            covered = [line for line in of_account if begins <= line.on <= last]
            is_bad = format == "csv" and number == _BAD_MONTH
            yield written(account, format, begins, last, before, covered, with_bad_line=is_bad)


def _format(account: str, number: int) -> Format:
    if account == "card":
        return "ofx"
    return {_CAMT_MONTH: "camt053", _MT940_MONTH: "mt940"}.get(number, "csv")
