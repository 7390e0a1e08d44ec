"""The text each recipient gets: the same input gives the same bytes, and nobody's name is markup."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.delivery import contents
from kernel.delivery.contents import Content, rendered, request_hash
from kernel.errors import RefusedError

MAIL = Content(UUID(int=1), "email", "Hi {{first_name|you}}", "Dear {{first_name|you}}", "a@x.co", None)


def test_a_field_that_is_not_known_says_what_stands_behind_it() -> None:
    assert rendered(MAIL, "r", "b@x.co", {}).body == "Dear you"
    assert rendered(MAIL, "r", "b@x.co", {"first_name": "Ann"}).body == "Dear Ann"


def test_html_escapes_what_people_are_called() -> None:
    content = replace(MAIL, body="<p>{{first_name|you}}</p>")
    assert rendered(content, "r", "b@x.co", {"first_name": "<b>&"}).body == "<p>&lt;b&gt;&amp;</p>"


def test_plain_text_is_left_as_it_is() -> None:
    assert rendered(MAIL, "r", "b@x.co", {"first_name": "<b>&"}).body == "Dear <b>&"


def test_what_somebody_is_called_makes_no_html_of_a_text() -> None:
    content = replace(MAIL, body="{{first_name|you}}, our news")
    message = rendered(content, "r", "b@x.co", {"first_name": "<b>Win</b>"})
    assert (message.body, message.is_html) == ("<b>Win</b>, our news", False)
    assert rendered(replace(MAIL, body="<p>x"), "r", "b@x.co", {}).is_html
    assert not rendered(replace(MAIL, body="<p>x", channel="sms"), "r", "+49", {}).is_html


@pytest.mark.parametrize("name", ["Ann\r\nBcc: all@x.co", "Ann\nX: y", "Ann\x0bB\x0c"])
def test_a_subject_is_one_line_whatever_a_name_holds(name: str) -> None:
    subject = rendered(MAIL, "r", "b@x.co", {"first_name": name}).subject
    assert len(subject.splitlines()) == 1


def test_a_name_that_looks_like_a_field_is_not_filled_again() -> None:
    assert rendered(MAIL, "r", "b@x.co", {"first_name": "{{address}}"}).body == "Dear {{address}}"


def test_the_unsubscribe_link_stands_in_the_body_and_in_the_headers() -> None:
    content = replace(MAIL, body="Out: {{unsubscribe_url}}", unsubscribe_base="https://x.co/u")
    message = rendered(content, "a b", "b@x.co", {})
    assert message.body == "Out: https://x.co/u?r=a%20b"
    assert message.headers["List-Unsubscribe"] == "<https://x.co/u?r=a%20b>"


@given(st.dictionaries(st.sampled_from(["first_name", "company"]), st.text(max_size=20)))
def test_rendering_twice_gives_the_same_bytes(variables: dict[str, str]) -> None:
    one, other = (rendered(MAIL, "r", "b@x.co", variables) for _ in range(2))
    assert one == other
    assert request_hash(one) == request_hash(other)


@pytest.mark.parametrize(
    "changed", [{"subject": "x"}, {"body": "x"}, {"address": "x"}, {"sender": "x"}, {"headers": {"a": "b"}}]
)
def test_whatever_a_recipient_sees_changes_the_hash_of_the_request(changed: dict) -> None:
    message = rendered(MAIL, "r", "b@x.co", {})
    assert request_hash(message) != request_hash(replace(message, **changed))


BAD = {
    "no body": ("email", "Hi", " ", "no body"),
    "no subject": ("email", "", "x", "needs a subject"),
    "unknown field": ("email", "Hi", "{{salary|0}}", "names no field"),
    "no fallback": ("email", "Hi", "{{first_name}}", "says nothing where it is not known"),
    "half a field": ("email", "Hi", "{{first_name", "without a field behind it"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_content_that_cannot_be_sent_is_refused_with_its_reason(case: str) -> None:
    channel, subject, body, why = BAD[case]
    with pytest.raises(RefusedError, match=why):
        contents._expect_usable(channel, subject, body)


# The plain text beside HTML ------------------------------------------------------------------------------------------

HTML = replace(MAIL, body="<p>{{first_name|you}}</p>", plain_body="Dear {{first_name|you}}")


def test_the_plain_text_is_filled_and_nothing_in_it_is_markup() -> None:
    message = rendered(HTML, "r", "b@x.co", {"first_name": "<b>&"})
    assert (message.body, message.plain_body) == ("<p>&lt;b&gt;&amp;</p>", "Dear <b>&")


def test_a_mail_in_plain_text_has_no_second_text() -> None:
    assert rendered(MAIL, "r", "b@x.co", {}).plain_body is None


def test_another_plain_text_is_another_content_and_another_request() -> None:
    message = rendered(HTML, "r", "b@x.co", {})
    assert request_hash(message) != request_hash(replace(message, plain_body="x"))
    one, other = (
        contents.content_hash("email", HTML.id, "a@x.co", None, "Hi", HTML.body, text) for text in ("x", "y")
    )
    assert one != other


def test_a_plain_text_is_made_of_html_when_none_is_given() -> None:
    assert contents._plain_body("email", "<p>Hi</p>", None) == "Hi"
    assert contents._plain_body("email", "<p>Hi</p>", "Hello") == "Hello"
    assert contents._plain_body("email", "<img src=a>", None) == ""
    assert contents._plain_body("sms", "<p>Hi</p>", None) is None


@pytest.mark.parametrize(("channel", "body", "text", "why"), [
    ("email", "Hi", "Hello", "stands beside HTML alone"), ("sms", "<p>Hi</p>", "Hello", "stands beside HTML alone"),
    ("email", "<p>Hi</p>", " ", "the plain text is empty"), ("email", "<p>Hi</p>", "{{salary|0}}", "names no field"),
])  # fmt: skip
def test_a_plain_text_that_cannot_be_sent_is_refused(channel: str, body: str, text: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        contents._plain_body(channel, body, text)


HIDDEN = {
    "comment": "<!-- {{unsubscribe_url}} --><p>Hi",
    "style": "<style>{{unsubscribe_url}}</style><p>Hi",
    "script": "<script>x<a href='{{unsubscribe_url}}'>u</a></script>Hi",
    "template": "<template><a href='{{unsubscribe_url}}'>u</a></template>Hi",
    "hidden element": "<div style='display : none'><p>a</p><a href='{{unsubscribe_url}}'>u</a></div>Hi",
    "hidden attribute": "<p hidden><a href='{{unsubscribe_url|x}}'>u</a></p>Hi",
    "link without words": "<p>Hi <a href='{{unsubscribe_url}}'> </a>",
}


@pytest.mark.parametrize("case", HIDDEN)
@pytest.mark.parametrize("text", [None, "{{unsubscribe_url}}"], ids=["derived", "given"])
def test_a_link_that_nobody_sees_is_refused_whatever_the_plain_text_says(case: str, text: str | None) -> None:
    with pytest.raises(RefusedError, match="nobody would see"):
        contents._plain_body("email", HIDDEN[case], text)


@pytest.mark.parametrize(
    "body", ["<p>Hi <a href='{{unsubscribe_url}}'>off</a>", "<a href={{unsubscribe_url}}><img src=a>"]
)
def test_a_link_that_is_seen_is_in_the_plain_text(body: str) -> None:
    assert "{{unsubscribe_url}}" in contents._plain_body("email", body, None)


def test_a_body_of_more_than_a_mebibyte_is_refused() -> None:
    contents._expect_usable("email", "Hi", "x" * (1 << 20))
    with pytest.raises(RefusedError, match="the body has 1048577 bytes: write at most 1048576"):
        contents._expect_usable("email", "Hi", "ä" * (1 << 19) + "x")
    with pytest.raises(RefusedError, match="the plain text has"):
        contents._plain_body("email", "<p>", "x" * (1 << 21))
