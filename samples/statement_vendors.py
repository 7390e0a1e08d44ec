"""Whom sample tenants pay and are paid by, and how each is booked. Only data: how lines are drawn stands in `statements`.

Money is in whole cents. Accounts are named by the categories that rules use; a chart of accounts maps each to its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Coding:
    """The account of a vendor's lines, and another one that some of them go to.

    `by` says which, and `at` from where: an amount in cents, the number of a month (the first is 1), a percentage of all
    lines. By card, those of the second debit card do.
    """

    usual: str
    other: str = ""
    by: Literal["", "amount", "card", "month", "chance"] = ""
    at: int = 0

    def category(self, cents: int, card: str, month: int, chance: float) -> str:
        """Of a line of that amount in the month of that number; `chance` is drawn from 0 to 1."""
        is_other = {
            "": False, "amount": cents >= self.at, "card": card == CARDS[1], "month": month >= self.at,
            "chance": chance * 100 < self.at,
        }[self.by]  # fmt: skip
        return self.other if is_other else self.usual


@dataclass(frozen=True, slots=True)
class Vendor:
    """`cents` is the median of what is paid at once, unless there are fixed `prices`; `weight` how often beside others.

    `form` is how a bank writes it: with number and town of a shop, behind a payment processor, with the number of an order,
    or as it is. `paid` from one account, or now from one and now from the other.
    """

    name: str
    coding: Coding
    cents: int = 0
    prices: tuple[int, ...] = ()
    weight: float = 1.0
    form: Literal["shop", "square", "order", "plain"] = "shop"
    paid: Literal["both", "card", "checking"] = "both"


@dataclass(frozen=True, slots=True)
class Trade:
    """What firms of the town are called after the place, and how they are booked."""

    name: str
    category: str
    cents: int


@dataclass(frozen=True, slots=True)
class Recurring:
    """Paid each month about that `day`. `#` in the text is a number that is never the same.

    `drift` is percent a month, `season` the share that January is above and July below; `spread` as of a logarithm.
    """

    text: str
    category: str
    day: int
    cents: int
    account: Literal["checking", "card"] = "checking"
    drift: float = 0.0
    season: float = 0.0
    spread: float = 0.0


# The last digits of the checking account, of its two debit cards, and of the credit card.
CHECKING, CARDS, CREDIT = "2210", ("4821", "7350"), "7788"


def _of(category: str) -> Coding:
    return Coding(category)


KNOWN = (
    Vendor("STAPLES", _of("office_supplies"), 6_400, weight=1.6),
    Vendor("OFFICE DEPOT", _of("office_supplies"), 5_800),
    Vendor("BEST BUY", Coding("office_supplies", "computer_equipment", "amount", 30_000), 24_000),
    Vendor("APPLE.COM/BILL", Coding("software", "computer_equipment", "amount", 20_000), prices=(999, 999, 2_999, 129_900), form="plain", paid="card"),
    Vendor("AMZN MKTP US", Coding("office_supplies", "computer_equipment", "chance", 20), 5_200, weight=3.5, form="order"),
    Vendor("COSTCO WHSE", Coding("cost_of_goods", "office_supplies", "card"), 18_500, weight=2.0, paid="checking"),
    Vendor("TARGET", Coding("office_supplies", "meals", "chance", 15), 4_300),
    Vendor("HOME DEPOT", Coding("repairs", "cost_of_goods", "card"), 9_700, weight=1.5, paid="checking"),
    Vendor("LOWES", _of("repairs"), 8_800),
    Vendor("RIVERSIDE PARKING", Coding("travel", "rent", "month", 8), prices=(1_200, 1_800), weight=2.0, form="plain"),
    Vendor("SHELL OIL", Coding("travel", "cost_of_goods", "card"), 5_100, weight=2.5, paid="checking"),
    Vendor("EXXONMOBIL", _of("travel"), 4_900, weight=1.5),
    Vendor("UBER *TRIP", _of("travel"), 2_300, weight=2.0, form="plain", paid="card"),
    Vendor("DELTA AIR LINES", _of("travel"), 38_000, weight=0.5, form="plain", paid="card"),
    Vendor("MARRIOTT", _of("travel"), 27_000, weight=0.5, paid="card"),
    Vendor("STARBUCKS", _of("meals"), prices=(450, 525, 675), weight=4.0),
    Vendor("CHIPOTLE", _of("meals"), prices=(1_145, 1_290, 1_420), weight=2.0),
    Vendor("DOORDASH", _of("meals"), 3_600, weight=1.5, form="order", paid="card"),
    Vendor("FEDEX OFFICE", Coding("shipping", "advertising", "amount", 12_000), 5_500, weight=1.5),
    Vendor("USPS PO", _of("shipping"), prices=(950, 1_320, 2_860), weight=2.0),
    Vendor("UPS STORE", _of("shipping"), 2_700, weight=1.5),
    Vendor("GOOGLE ADS", _of("advertising"), 24_000, form="order", paid="card"),
    Vendor("FACEBK ADS", _of("advertising"), 15_000, form="order", paid="card"),
    Vendor("MAILCHIMP", _of("advertising"), prices=(4_500,), weight=0.4, form="plain", paid="card"),
    Vendor("UPWORK", _of("contractors"), 42_000, form="order", paid="card"),
    Vendor("FIVERR.COM", Coding("contractors", "advertising", "chance", 12), 9_500, form="plain", paid="card"),
    Vendor("SYSCO FOODS", _of("cost_of_goods"), 31_000, weight=2.0, form="plain", paid="checking"),
    Vendor("ULINE", Coding("shipping", "cost_of_goods", "amount", 25_000), 19_000, weight=1.5, form="plain"),
    Vendor("DELL MARKETING", _of("computer_equipment"), 64_000, weight=0.3, form="plain"),
    Vendor("ALIBABA.COM", _of("cost_of_goods"), 28_000, weight=1.2, form="order", paid="card"),
)  # fmt: skip

# A town's own firms are a place and a trade. New ones come of the same: the trade may tell of the account, the name is new.
PLACES = (
    "MAPLE", "HARBOR", "OLD MILL", "FERNDALE", "BLUE HERON", "SUNSET", "PIONEER", "GRANITE", "WILLOW", "LAKESIDE", "COPPER",
    "NORTH STAR", "JUNIPER", "PRAIRIE", "KEYSTONE", "RED BARN", "EVERGREEN", "SUMMIT", "BAYVIEW", "CEDAR", "FOXGLOVE",
)  # fmt: skip
TRADES = (
    Trade("COFFEE", "meals", 900), Trade("DELI", "meals", 1_700), Trade("PIZZERIA", "meals", 3_100),
    Trade("BAKERY", "cost_of_goods", 8_600), Trade("FARMS", "cost_of_goods", 17_000), Trade("PACKAGING", "cost_of_goods", 12_500),
    Trade("WHOLESALE", "cost_of_goods", 22_000), Trade("PRINT", "advertising", 9_200), Trade("SIGNS", "advertising", 18_500),
    Trade("PLUMBING", "repairs", 21_000), Trade("ELECTRIC CO", "repairs", 24_000), Trade("HARDWARE", "repairs", 4_800),
    Trade("CLEANING", "repairs", 16_000), Trade("TAXI", "travel", 2_600), Trade("INN", "travel", 17_500),
    Trade("COURIER", "shipping", 3_400), Trade("PAPER", "office_supplies", 5_300), Trade("STATIONERY", "office_supplies", 3_900),
    Trade("LEGAL", "professional_fees", 46_000), Trade("BOOKKEEPING", "professional_fees", 28_000),
    Trade("DESIGN", "contractors", 36_000), Trade("COMPUTERS", "computer_equipment", 27_000),
)  # fmt: skip
TOWNS = ("CHICAGO IL", "OAK PARK IL", "EVANSTON IL", "CICERO IL", "SPRINGFIELD IL", "GARY IN")

# The first ones every business has.
RECURRING = (
    Recurring("PRAIRIE PROPERTIES RENT", "rent", 1, 320_000),
    Recurring("COMED UTIL BILL #", "utilities", 12, 21_500, drift=0.8, season=0.25, spread=0.05),
    Recurring("GUSTO PAYROLL #", "payroll", 15, 385_000, drift=0.5, spread=0.03),
    Recurring("COMCAST BUSINESS #", "utilities", 18, 14_900),
    Recurring("MONTHLY SERVICE FEE", "bank_fees", 28, 1_500),
    Recurring("ADOBE *CREATIVE CLOUD", "software", 9, 5_999, account="card"),
    Recurring("GUSTO PAYROLL #", "payroll", 28, 385_000, drift=0.5, spread=0.03),
    Recurring("IRS USATAXPYMT #", "taxes", 15, 92_000, drift=0.5, spread=0.04),
    Recurring("HISCOX INSURANCE", "insurance", 5, 18_700),
    Recurring("PEOPLES GAS BILL #", "utilities", 21, 13_000, season=0.6, spread=0.08),
    Recurring("VERIZON WIRELESS #", "utilities", 23, 16_400, spread=0.02),
    Recurring("GOOGLE *WORKSPACE", "software", 2, 7_200, account="card"),
    Recurring("SLACK TECHNOLOGIES", "software", 17, 8_750, account="card", drift=1.5),
    Recurring("EQUIPMENT LOAN INTEREST PAID", "interest", 10, 14_200, drift=-1.0),
)
SALES = (("STRIPE TRANSFER #", 0.5), ("SQUARE INC #", 0.3), ("MERCHANT DEPOSIT #", 0.2))
WIRE_FEE = ("WIRE TRANSFER FEE", "bank_fees", 3_000)
LARGE = Vendor("DELL BUSINESS ONLINE", _of("computer_equipment"), 940_000, form="plain", paid="checking")

TRANSFER = "transfer"
CATEGORIES = tuple(
    sorted(
        {name for each in (*KNOWN, LARGE) for name in (each.coding.usual, each.coding.other) if name}
        | {each.category for each in (*TRADES, *RECURRING)}
        | {"sales", TRANSFER, WIRE_FEE[1]}
    )
)
