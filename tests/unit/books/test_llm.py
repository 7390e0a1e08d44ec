"""What a language model is told and believed: no personal numbers, no amounts, and one account of the list or none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import UUID

import pytest

from kernel.books.contract import BankLine
from kernel.books.llm import Account, NoReply, NotAsked, Question, Reply, StandIn, chosen, redacted
from kernel.books.llm_openai import OpenAi

CHART = (Account("6300", "Office Supplies", "Expense"), Account("6100", "Rent", "Expense"))
LINE = BankLine(
    UUID(int=1), UUID(int=2), date(2026, 1, 15), -123456, "USD", "STAPLES card 4111 1111 1111 1111 tel +1 (555) 123-4567",
    "Staples, ann@example.com", "staples",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("card 4111-1111-1111-1111 paid", "card [number] paid"),
        ("4111111111111111", "[number]"),
        ("VISA ****1234", "VISA [card]"),
        ("XXXX-XXXX-XXXX-9876", "[card]"),
        ("call +44 20 7946 0958 now", "call [number] now"),
        ("tel. (555) 123-4567", "tel. [number]"),
        ("ssn 078-05-1120", "ssn [number]"),
        ("from DE89 3704 0044 0532 0130 00", "from [account]"),
        ("GB29NWBK60161331926819 rent", "[account] rent"),
        ("to Ann.Lee+x@mail.example.com.", "to [mail]"),
        ("STORE 1234 CHICAGO 60601", "STORE 1234 CHICAGO 60601"),
        ("a\nb\x1b[31m", "a b [31m"),
    ],
)
def test_personal_numbers_are_not_told(text: str, told: str) -> None:
    assert redacted(text) == told


def test_a_question_has_no_amount_no_day_and_nothing_personal() -> None:
    told = repr(Question.of(LINE))
    assert told == "Question(vendor='staples', description='STAPLES card [number] tel [number]', is_out=True)"


@pytest.mark.parametrize(
    ("said", "account"),
    [("6300", "6300"), (' "6300".\n', "6300"), ("none", None), ("9999", None), ("6300 and 6100", None),
     ("6300 Office Supplies", None), ("", None), ('{"account": "6300"}', None)],
)  # fmt: skip
def test_only_a_code_of_the_chart_is_an_answer(said: str, account: str | None) -> None:
    assert chosen(said, CHART) == account


def test_the_stand_in_answers_the_same_each_time_and_asks_nobody() -> None:
    question = Question("acme", "office paper", True)
    assert [StandIn().ask(question, CHART).said for _ in range(2)] == ["6300", "6300"]
    assert StandIn().ask(Question("acme", "unknown", True), CHART).said == "none"
    assert StandIn().ask(question, ()).said == "none"


@contextmanager
def service(status: int, body: bytes) -> Iterator[tuple[str, list[dict]]]:
    """An address that answers so, and what it was asked."""
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **json.loads(content)})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(said: object, **more: object) -> bytes:
    return json.dumps({"choices": [{"message": {"content": said}}], **more}).encode()


def test_a_service_is_asked_for_a_completion_and_its_count_of_tokens_is_taken() -> None:
    used = {"prompt_tokens": 120, "completion_tokens": 3}
    with service(200, completion("6300", usage=used)) as (address, asked):
        model = OpenAi(address, "gpt-4o-mini", "secret")
        assert model.ask(Question.of(LINE), CHART) == Reply("6300", 120, 3)
    (told,) = asked
    assert (told["path"], told["key"], told["model"]) == (
        "/v1/chat/completions",
        "Bearer secret",
        "gpt-4o-mini",
    )
    assert "6300: Office Supplies" in told["messages"][0]["content"]
    assert "1234" not in json.dumps(told)
    assert "secret" not in repr(model)


def test_the_bound_of_tokens_is_one_for_each_byte_that_is_sent() -> None:
    with service(200, completion("none")) as (address, asked):
        model = OpenAi(address, "m", "")
        question = Question("ジャパン", "税金", False)
        model.ask(question, CHART)
    sent = sum(len(each["content"].encode()) for each in asked[0]["messages"])
    assert model.most_tokens(question, CHART)[0] > sent
    assert model.most_tokens(question, CHART)[1] == asked[0]["max_tokens"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(401, b"", NotAsked), (429, b"", NotAsked), (500, b"", NoReply), (200, b"<html>", NoReply), (200, b"[]", NoReply),
     (200, completion(None), NoReply), (200, b'{"choices": []}', NoReply), (302, b"", NoReply)],
)  # fmt: skip
def test_what_is_no_answer_is_told_from_what_was_never_asked(
    status: int, body: bytes, error: type[Exception]
) -> None:
    with service(status, body) as (address, _), pytest.raises(error):
        OpenAi(address, "m", "").ask(Question.of(LINE), CHART)


def test_a_service_that_is_not_there_was_not_asked() -> None:
    with service(200, b"") as (address, _):
        pass
    with pytest.raises(NotAsked):
        OpenAi(address, "m", "").ask(Question.of(LINE), CHART)
