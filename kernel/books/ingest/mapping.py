"""Mapping files of statements: what a bank's export calls its columns and how it writes what stands in them.

Most exports need none. What a mapping may say is described in docs/how-to/import-bank-statements.md.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from kernel.books.ingest.dates import Order
from kernel.books.ingest.statement import Format
from kernel.errors import RefusedError
from kernel.landing.mapping import read_yaml, told
from kernel.money import CURRENCIES

Name = Literal[
    "post_date", "value_date", "description", "counterparty", "amount", "debit", "credit", "direction", "balance",
    "bank_ref", "reference", "category", "card", "currency", "account",
]  # fmt: skip
_LARGEST = 100_000  # bytes
# What banks write in, by Python's own names; it knows each by many others. Others of its codecs are no charsets.
CHARSETS = frozenset([
    "ascii", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso8859-1", "iso8859-2", "iso8859-3", "iso8859-4",
    "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8", "iso8859-9", "iso8859-10", "iso8859-13", "iso8859-14", "iso8859-15",
    "iso8859-16", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp437", "cp737",
    "cp775", "cp850", "cp852", "cp855", "cp857", "cp858", "cp860", "cp861", "cp862", "cp863", "cp864", "cp865", "cp866",
    "cp869", "cp874", "tis-620", "iso8859-11", "koi8-r", "koi8-u", "mac-roman", "gb2312", "gbk", "gb18030", "big5", "big5hkscs",
    "cp950", "shift_jis", "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "cp037", "cp273", "cp500", "cp1140",
])  # fmt: skip


def _held(value: str) -> str:
    # Neither a database nor a file has them.
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{value!a:.60} holds a NUL character or half of one: remove it")
    return value


Text = Annotated[str, AfterValidator(_held)]
Column = Text | Annotated[int, Field(ge=1)]


class Mapping(BaseModel):
    """How a file is read. What is left out follows from the file itself; unknown words are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Format | None = None
    # The column of each field by its name, or by its number where the file has no header. Of several, the first that
    # is filled counts; a list of currencies goes with the list of amounts. Columns that are not named are kept aside.
    columns: dict[Name, Column | list[Column]] = Field(default_factory=dict)
    delimiter: Text | None = Field(None, min_length=1, max_length=1)
    encoding: Text | None = None
    date_order: Order | None = None
    decimal: Literal[".", ","] | None = None
    # Which sign an amount has that leaves the account.
    out_is: Literal["negative", "positive"] | None = None
    currency: str | None = None
    # Of a file that tells of several accounts, the one that is read, as the file calls it.
    account: Text | None = None

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, value: str | None) -> str | None:
        if value is not None and value not in CURRENCIES:
            raise ValueError(f"{value} is no ISO 4217 currency")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        try:
            is_known = value is None or codecs.lookup(value).name in CHARSETS
        except LookupError:
            is_known = False
        if not is_known:
            raise ValueError(f"{value!r:.60} is no charset of banks: use one such as utf-8, cp1252 or utf-16")
        return value

    @field_validator("delimiter")
    @classmethod
    def _is_no_quote(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n':
            raise ValueError(f"{value!r} ends a field or a line itself: use one such as ; or ,")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Mapping:
        if self.columns and "post_date" not in self.columns:
            raise ValueError("the columns name no post_date: add it")
        if self.columns and not {"amount", "debit", "credit"} & set(self.columns):
            raise ValueError("the columns name no amount, and neither debit nor credit: add it")
        if self.columns and not {"description", "counterparty"} & set(self.columns):
            raise ValueError("the columns name no description and no counterparty: add one")
        if self.columns and len(self.are_numbers) > 1:
            raise ValueError("columns are named by their names or by their numbers, not both")
        return self

    @property
    def are_numbers(self) -> set[bool]:
        return {isinstance(each, int) for name in self.columns for each in self.listed(name)}

    def listed(self, name: str) -> list[Column]:
        """The columns of a field, first of all the one that counts before the others."""
        given = self.columns.get(name, [])  # type: ignore[call-overload]
        return given if isinstance(given, list) else [given]


def load(path: Path) -> Mapping:
    """The mapping of a YAML or JSON file. Raises RefusedError for what it says wrongly, and where."""
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise RefusedError(
            f"mapping file {path.name} has more than {_LARGEST:,} bytes: no mapping needs as many"
        )
    read = read_yaml(path, yaml.SafeLoader)
    try:
        return Mapping.model_validate(read)
    except ValidationError as error:
        raise RefusedError(f"mapping file {path.name}, {told(error, Mapping, {})}") from None
