"""The plain text of an HTML mail says what the HTML says, and nothing that nobody would see."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.delivery.plain import text_of

SAID = {
    "words": ("<p>One  <b>bold</b>\nword &amp; more</p>", "One bold word & more"),
    "paragraphs": ("<p>One</p><p>Two</p>", "One\n\nTwo"),
    "lines": ("<p>One<br>Two<br/>Three</p>", "One\nTwo\nThree"),
    "a heading": ("<h1>News</h1>Hello", "News\n\nHello"),
    "a list": ("<ul><li>one<li>two</li></ul>", "- one\n- two"),
    "a table": ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
    "a link": ("<a href='{{unsubscribe_url}}'>off</a>", "off ({{unsubscribe_url}})"),
    "a link that is its own text": ("<a href='https://x.co'>https://x.co</a>", "https://x.co"),
    "a link around a picture": ("<a href='https://x.co'><img alt='' src=a></a>", "https://x.co"),
    "a picture": ("<img src='a.png' alt='A cat'>", "A cat"),
    "a field": ("<p>Dear {{first_name|you}}</p>", "Dear {{first_name|you}}"),
    "a head without its end": ("<html><head><title>x</title><body>Hello", "Hello"),
    "a comment, a style and a script": ("<!-- x --><style>p{}</style><script>1<2</script>Hello", "Hello"),
    "an empty link": ("<a href='https://x.co'></a>Hello", "Hello"),
    "a link without its end": ("Hi <a href='https://x.co'>there", "Hi there (https://x.co)"),
    "what is hidden": (
        "<div hidden>a<div>b</div>c</div><p style='x:1;Visibility: hidden'>d<p>Hello",
        "Hello",
    ),
    "a hidden picture": ("<img hidden alt=x src=a>Hello", "Hello"),
    "what has no end": ("Hello<p>you<a href='x", "Hello\n\nyou"),
    "a comment without its end": ("Hello<!-- you", "Hello"),
    "comments of nothing": ("a<!-->b<!--->c<!----!>d", "abcd"),
    "no tag": ("1 < 2 <3 &amp;lt; &#65;", "1 < 2 <3 &lt; A"),
    "no words at all": ("<div><img src=a></div>", ""),
}


@pytest.mark.parametrize("case", SAID)
def test_html_is_written_as_what_it_says(case: str) -> None:
    body, said = SAID[case]
    assert text_of(body) == said


@given(st.text(alphabet="<>/a&;#!-'\" \nbrptilhef=", max_size=60))
def test_no_html_however_broken_raises_or_keeps_blank_edges(body: str) -> None:
    said = text_of(body)
    assert said == said.strip()
    assert "\n\n\n" not in said


@pytest.mark.parametrize("unit", [
    "<!--", "<!", "<![", "<?", "</", "<", "<a ", "<a b=\"", "<a b='", "<a href=x>", "<div>", "<p hidden>", "<style>",
    "<style></style ", "<title>", "<a b" + " " * 50, "&#9", "&", "</a>", "<a href=x>y<img>",
])  # fmt: skip
def test_a_long_text_takes_as_long_as_it_is_long(unit: str) -> None:
    def took(length: int) -> float:
        text = unit * (length // len(unit)) + ">"
        begun = process_time()
        text_of(text)
        return process_time() - begun

    # Sixteen times the length; what is quadratic takes 256 times as long.
    assert took(1 << 18) < 80 * max(min(took(1 << 14) for _ in range(3)), 0.001)


def test_a_number_too_long_to_be_read_is_no_character() -> None:
    assert text_of("<p>&#" + "9" * 10_000 + ";") == "\ufffd"
