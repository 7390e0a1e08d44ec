"""The normal form of vendors: one for a firm however its name is written, and never another firm's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.books.vendors import normalise


@pytest.mark.parametrize(
    ("written", "vendor"),
    [
        ("WALGREENS #1234", "walgreens"),
        ("POS PURCHASE AMAZON.COM", "amazoncom"),
        ("CVS/pharmacy #4567", "cvspharmacy"),
        ("McDonald's Corp.", "mcdonalds"),
        ("First Credit Union", "first credit union"),
        ("Amazon Web Services", "amazon web services"),
        ("Card Factory", "card factory"),
        ("トヨタ自動車株式会社", "トヨタ自動車株式会社"),
        ("WALGREENS #1234 CHICAGO IL", "walgreens"),
        ("STAPLES 00123456", "staples"),
        ("7-Eleven 23456", "7eleven"),
        ("SHELL OIL 57444212 AUSTIN TX", "shell oil"),
        ("AMZN Mktp US*2K3AB4XX1", "amzn mktp us"),
        ("SQ *COFFEE HOUSE", "coffee house"),
        ("DEBIT CARD PURCHASE STARBUCKS STORE 12345", "starbucks"),
        ("CARD PAYMENT TO TESCO STORES 2345", "tesco stores"),
        ("Comcast Payment", "comcast"),
        ("CREDIT CARD PAYMENT", "credit card payment"),
        ("Motel 6", "motel 6"),
        ("NV Energy", "nv energy"),
        ("Café Noir", "cafe noir"),
        ("हिन्दी दुकान 12345", "हिन्दी दुकान"),
        ("ООО Ромашка", "ооо ромашка"),
        ("***", ""),
    ],
)
def test_a_vendor_is_called_by_its_name_alone(written: str, vendor: str) -> None:
    assert normalise(written) == vendor


_WORDS = [
    "pos",
    "purchase",
    "card",
    "credit",
    "store",
    "#12",
    "1234",
    "il",
    "acme",
    "*",
    "sq *",
    "inc",
    "to",
    "İ",
    "ß",
    "株式",
]
_NAMES = st.text() | st.lists(st.sampled_from(_WORDS), max_size=8).map(" ".join)


@given(_NAMES)
def test_what_is_normal_stays_as_it_is(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(alphabet=st.characters(categories=["Ll", "Lu", "Lo", "Nd"]), min_size=1))
def test_whatever_has_a_letter_has_a_vendor(text: str) -> None:
    assert normalise(text)
