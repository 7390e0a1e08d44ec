"""Mapping files: how an export of another system becomes landing rows.

A mapping lists files by pattern; each file gives rows to one or more facts, and for each fact says where every
contract column comes from. The format is described for people in docs/reference/mapping.md.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from kernel.errors import RefusedError
from kernel.landing.contracts import FACTS, known_fact

_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
CONTRACT = "landing"  # the name of the mapping of files that follow a landing contract already
_YAML = (".yaml", ".yml")
_SHIPPED = Path(__file__).parent / "mappings"
# Stands between the name of a file and what marks an export of its rejected rows, to be repaired and loaded.
REJECTED = ".rejected-"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Source(_Strict):
    """Where one contract column comes from: exactly one of from, constant, template, json; and how it is read."""

    column: str | None = Field(None, alias="from")
    constant: str | None = None
    template: str | None = None
    pack: list[str] | None = Field(None, alias="json")
    values: dict[str, str | None] | None = None
    otherwise: str | None = Field(None, alias="else")
    default: str | None = None
    format: str | None = None
    time_zone: str | None = None
    scale: str | None = None
    strip: str = ""
    decimal_comma: bool = False

    @field_validator("scale")
    @classmethod
    def _exact(cls, value: str | None) -> str | None:
        try:
            # An exponent of a million would make each amount a text as long.
            usable = -30 < Decimal(value or "1").adjusted() < 30 and Decimal(value or "1").is_finite()
        except InvalidOperation:
            usable = False
        if not usable:
            raise ValueError(f"{value!r} is no number to multiply by: write one such as 0.01")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value} is no time zone: use an IANA name such as Europe/Berlin")
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        given = [self.column, self.constant, self.template, self.pack]
        if sum(origin is not None for origin in given) != 1:
            raise ValueError("give exactly one of: from, constant, template, json")
        return self


def _as_source(value: Any) -> Any:
    # `stage: deal_stage` is short for `stage: {from: deal_stage}`.
    return {"from": value} if isinstance(value, str) else value


class Condition(_Strict):
    """Which rows count: the column's text is one of, is none of, is empty or is not."""

    is_in: Annotated[list[str] | None, BeforeValidator(_listed)] = Field(None, alias="in")
    not_in: Annotated[list[str] | None, BeforeValidator(_listed)] = None
    empty: bool | None = None


class Output(_Strict):
    """The rows one file gives to one fact."""

    fact: str
    columns: dict[str, Annotated[Source, BeforeValidator(_as_source)]]
    where: dict[str, Condition] = Field(default_factory=dict)
    on_unknown_reference: Annotated[
        Literal["reject", "null"], BeforeValidator(lambda value: value or "null")
    ] = "reject"
    duplicates: Literal["reject", "first", "last"] = "reject"

    @model_validator(mode="after")
    def _fits_the_contract(self) -> Output:
        known = {column.name: column for column in known_fact(self.fact).columns}
        for name in self.columns:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ValueError(
                    f"fact {self.fact} has no column {name!r}{f': did you mean {near[0]}?' if near else ''}"
                )
        missing = [name for name, column in known.items() if column.required and name not in self.columns]
        if missing:
            raise ValueError(f"fact {self.fact} needs {', '.join(missing)}: map each, or give a constant")
        return self

    def with_currency(self, default: str) -> Output:
        """The same output, with the tenant's currency where the contract has one and the mapping names none."""
        if "currency" in self.columns or all(
            column.name != "currency" for column in FACTS[self.fact].columns
        ):
            return self
        return self.model_copy(update={"columns": self.columns | {"currency": Source(constant=default)}})


def refuse_reversed(first: date | None, last: date | None) -> None:
    """Raises RefusedError for a span of covered days that ends before it begins."""
    if first is not None and last is not None and last < first:
        raise RefusedError(f"the covered days are reversed: {last} lies before {first}, swap them")


class Covers(_Strict):
    """The business days a file speaks for in full; taken from its rows when left out."""

    first: date | None = Field(None, alias="from")
    last: date | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Covers:
        refuse_reversed(self.first, self.last)
        return self


class File(_Strict):
    """One kind of file of an export."""

    pattern: str
    outputs: list[Output] = Field(min_length=1)
    format: Literal["csv", "whitespace"] = "csv"
    delimiter: str = Field(",", min_length=1, max_length=1)
    # For files without a usable header line: their columns, and how many lines come before the rows.
    columns: list[str] | None = None
    skip_lines: int = Field(0, ge=0)
    # Text that is 1 for the first row with these columns' values, 2 for the second: for sources without ids.
    occurrence_of: list[str] | None = None
    covers: Covers = Covers()


class Mapping(_Strict):
    name: str
    # Becomes part of row identities, so it is a plain name.
    source_system: str = Field(pattern=_NAME)
    description: str = ""
    # The system whose rows the references point at, when it is not this one.
    reference_source_system: str | None = Field(None, pattern=_NAME)
    is_required: bool = True
    files: list[File] = Field(min_length=1)

    def file_for(self, path: Path) -> File | None:
        """The part for a file, or for the file whose rejected rows it holds."""
        name = path.name.split(REJECTED)[0]
        return next((file for file in self.files if fnmatch(name, file.pattern)), None)


class _Text(yaml.SafeLoader):
    """Reads every value as it is written: a value map may name Yes, 007 or 2026-01-01 without quotes."""


_Text.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in found if tag.endswith((":null", ":merge"))]
    for start, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def shipped() -> list[str]:
    """Names of the mappings that come with the program."""
    return [path.stem for path in _in_folder(_SHIPPED)]


def own_folders(landing: Path, tenant: str) -> tuple[Path, Path]:
    """Where a landing folder keeps mappings of its own: the tenant's, then those of every tenant."""
    return landing / tenant / "mappings", landing / "mappings"


def known(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Name to file of every mapping in the folders and of the shipped ones; the first of a name counts."""
    found = [path for folder in (*folders, _SHIPPED) for path in _in_folder(folder)]
    return {path.stem: path for path in reversed(found)}


def _in_folder(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in _YAML)


def read_yaml(path: Path, loader: type[yaml.SafeLoader]) -> dict[Any, Any]:
    """What a YAML file says. Raises RefusedError for one that cannot be read or is no mapping."""
    if path.exists() and not path.is_file():
        raise RefusedError(f"{path} is no regular file: put the file itself there, or remove it")
    try:
        read = yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - builds on SafeLoader
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RefusedError(f"{path} is no valid YAML: it is nested too deeply") from None
    # The last four are what the library gives for a text that is not what its tag says, as `!!int abc`.
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError(f"{path} is no valid YAML: {next(iter(str(error).splitlines()), '')}") from None
    if not isinstance(read, dict):
        raise RefusedError(f"{path} is no valid YAML mapping: it needs fields such as name: ...")
    return read


def load_mapping(name_or_path: str, folders: Sequence[Path] = ()) -> Mapping:
    """A mapping by name, from the folders or shipped, or by path of its YAML file.

    Raises RefusedError saying what is wrong where.
    """
    path = Path(name_or_path)
    if path.suffix not in _YAML:
        names = known(folders)
        if name_or_path not in names:
            near = difflib.get_close_matches(name_or_path, names, n=1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"choose among {', '.join(sorted(names))}, or give a .yaml file"
            )
            raise RefusedError(f"mapping {name_or_path!r} is unknown: {hint}")
        path = names[name_or_path]
    read = read_yaml(path, _Text)
    try:
        return Mapping.model_validate(read)
    except ValidationError as error:
        raise RefusedError(f"mapping file {path}, {told(error, Mapping, _PARTS)}") from None
    except RefusedError as error:
        raise RefusedError(f"mapping file {path}: {error}") from None


# The model below each word of the format.
_PARTS: dict[str, type[BaseModel]] = {
    "files": File, "covers": Covers, "outputs": Output, "columns": Source, "where": Condition,
}  # fmt: skip


def told(error: ValidationError, whole: type[BaseModel], parts: dict[str, type[BaseModel]]) -> str:
    """What is wrong with a description first of all, its place, and for an unknown word the nearest."""
    # A word that is misspelt is missing too, and the misspelling is what has to be seen.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        said = (
            "is missing: add it" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        )
        return f"{'.'.join(place)}: {said}"
    model = next((parts[part] for part in reversed(place[:-1]) if part in parts), whole)
    words = [field.alias or name for name, field in model.model_fields.items()]
    near = difflib.get_close_matches(place[-1], words, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose among {', '.join(words)}"
    return f"{'.'.join(place)}: {place[-1]!r} is unknown: {hint}"


def contract_mapping(
    fact: str, present: Sequence[str], source_system: str, reference_source_system: str | None = None
) -> Mapping:
    """The mapping of a file that already follows a landing contract."""
    contract = FACTS[fact]
    known = [column.name for column in contract.columns]
    for name in present:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise RefusedError(
                f"column {name!r} is not part of the landing contract of {fact}"
                f"{f': did you mean {near[0]}?' if near else ', remove it or use a mapping'}"
            )
    missing = [column.name for column in contract.columns if column.required and column.name not in present]
    if missing:
        raise RefusedError(f"column {missing[0]!r} is missing, which the landing contract of {fact} requires")
    if not re.match(_NAME, source_system):
        raise RefusedError(
            f"source {source_system!r} is no plain name: use lower-case letters, digits, - and _"
        )
    return Mapping(
        name=CONTRACT,
        source_system=source_system,
        reference_source_system=reference_source_system,
        files=[File(pattern="*", outputs=[Output(fact=fact, columns={name: name for name in present})])],  # type: ignore[arg-type]
    )
