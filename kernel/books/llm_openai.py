"""A language model behind an address that speaks as OpenAI's chat completions do; many services and local servers do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernel.books.llm import Account, NoReply, NotAsked, Question, Reply
from kernel.http import Client, NoAnswer, NotSent

# An account's code has at most 32 characters, and no token has less than one of them.
_MOST_REPLY = 40
# More than any model reads at once: who counts more is not believed.
_MOST_COUNTED = 10_000_000
# What a service adds to a message of ours, in tokens: its role, and what marks where it begins and ends.
_AROUND = 16
_TASK = (
    "You are a bookkeeper. Say to which account of the chart a line of a bank statement is booked."
    " Answer with the code of one account of the list and nothing else, or with: none"
)


@dataclass(frozen=True)
class OpenAi:
    """`base_url` up to and without /chat/completions. `key` may be empty for a server of one's own."""

    base_url: str
    model: str
    key: str
    timeout_seconds: float = 30

    def __repr__(self) -> str:
        return f"OpenAi({self.base_url!r}, {self.model!r})"

    def most_tokens(self, question: Question, accounts: Sequence[Account]) -> tuple[int, int]:
        """A token is a byte of the text at least."""
        messages = _messages(question, accounts)
        return sum(len(each["content"].encode()) + _AROUND for each in messages) + _AROUND, _MOST_REPLY

    def ask(self, question: Question, accounts: Sequence[Account]) -> Reply:
        asked = {
            "model": self.model,
            "messages": _messages(question, accounts),
            "max_tokens": _MOST_REPLY,
            "temperature": 0,
        }
        headers = {"Content-Type": "application/json", "User-Agent": "revenue-os"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        client = Client(self.base_url, headers=headers, timeout_seconds=self.timeout_seconds)
        try:
            answer = client.ask("POST", "/chat/completions", json.dumps(asked).encode())
        except NotSent as error:
            raise NotAsked(str(error)) from None
        except NoAnswer as error:
            raise NoReply(str(error)) from None
        if 400 <= answer.status < 500:
            raise NotAsked(f"the service refused the question with status {answer.status}")
        if answer.status != 200:
            raise NoReply(f"the service answered with status {answer.status}")
        return _reply(answer.body)


def _reply(body: bytes) -> Reply:
    try:
        told: dict[str, Any] = json.loads(body)
        said = told["choices"][0]["message"]["content"]
        used = told.get("usage") or {}
        counted = [used.get("prompt_tokens"), used.get("completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise NoReply("the service answered with something else than a chat completion") from None
    if not isinstance(said, str):
        raise NoReply("the service answered without a text")
    if all(type(each) is int and 0 <= each <= _MOST_COUNTED for each in counted):
        return Reply(said, *counted)
    return Reply(said)


def _messages(question: Question, accounts: Sequence[Account]) -> list[dict[str, str]]:
    chart = "\n".join(f"{account.code}: {account.name} ({account.type})" for account in accounts)
    line = json.dumps(
        {
            "direction": "money out" if question.is_out else "money in",
            "counterparty": question.vendor,
            "description": question.description,
        },
        ensure_ascii=False,
    )
    return [
        {"role": "system", "content": f"{_TASK}\n\n{chart}"},
        # The line is a stranger's text: it stands as data, and whatever it asks for, the answer is a code or none.
        {"role": "user", "content": line},
    ]
