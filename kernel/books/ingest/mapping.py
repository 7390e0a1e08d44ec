"""Mapping files of statements: what a bank's export calls its columns and how it writes what stands in them.

Most exports need none. What a mapping may say is described in docs/how-to/import-bank-statements.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kernel.books.ingest.dates import Order
from kernel.books.ingest.statement import Format
from kernel.errors import RefusedError
from kernel.landing.mapping import read_yaml, told
from kernel.money import CURRENCIES

Name = Literal[
    "post_date", "value_date", "description", "counterparty", "amount", "debit", "credit", "direction", "balance",
    "bank_ref", "reference", "category", "card", "currency", "account",
]  # fmt: skip
Column = str | Annotated[int, Field(ge=1)]


class Mapping(BaseModel):
    """How a file is read. What is left out follows from the file itself; unknown words are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Format | None = None
    # The column of each field by its name, or by its number where the file has no header. Of several, the first that
    # is filled counts; a list of currencies goes with the list of amounts. Columns that are not named are kept aside.
    columns: dict[Name, Column | list[Column]] = Field(default_factory=dict)
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    encoding: str | None = None
    date_order: Order | None = None
    decimal: Literal[".", ","] | None = None
    # Which sign an amount has that leaves the account.
    out_is: Literal["negative", "positive"] | None = None
    currency: str | None = None
    # Of a file that tells of several accounts, the one that is read, as the file calls it.
    account: str | None = None

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
            "".encode(value or "utf-8")
        except LookupError:
            raise ValueError(f"{value} is no encoding: use one such as utf-8, cp1252 or utf-16") from None
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
    read = read_yaml(path, yaml.SafeLoader)
    try:
        return Mapping.model_validate(read)
    except ValidationError as error:
        raise RefusedError(f"mapping file {path.name}, {told(error, Mapping, {})}") from None
