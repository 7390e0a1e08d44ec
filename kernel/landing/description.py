"""The `tenant.yaml` of a landing folder: what it may say, and making the tenant it describes.

The format is described for people in docs/reference/tenant-yaml.md.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4

import sqlalchemy as sa
import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from kernel import tenancy
from kernel.errors import RefusedError
from kernel.landing.contracts import known_fact
from kernel.landing.mapping import Covers, read_yaml, told
from models.actions import subsystem_settings, user_tenants

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Version(_Strict):
    """The whole configuration from an instant on."""

    payload: dict[str, Any]
    valid_from: AwareDatetime = _BEGINNING
    reason: str = "as described in the landing folder"


class Person(_Strict):
    """Who belongs to the tenant."""

    user_id: UUID = Field(default_factory=uuid4)
    name: str
    role: Literal["owner", "approver", "member"] = "member"


class Flags(_Strict):
    """Switches of the tenant."""

    revenue_os_enabled: bool = False
    cfo_expansion_enabled: bool = False


class Description(_Strict):
    """One tenant. Everything but `covers` and `reference_source_system` is read once, when it is created."""

    id: UUID = Field(default_factory=uuid4)
    slug: str
    name: str
    currency: str
    flags: Flags = Flags()
    # Since when decisions are carried out; for a month from then on people agree to more of them.
    activated_at: AwareDatetime | None = None
    config: list[Version] = Field(default_factory=list)
    members: list[Person] = Field(default_factory=list)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    # The system whose keys the *_key columns of contract files hold, when it is not their own.
    reference_source_system: str | None = None
    # Fact to the business days its files speak for.
    covers: dict[str, Covers] = Field(default_factory=dict)
    # For people: which source delivers which facts.
    sources: dict[str, list[str]] = Field(default_factory=dict)

    @field_validator("covers")
    @classmethod
    def _of_facts(cls, value: dict[str, Covers]) -> dict[str, Covers]:
        for fact in value:
            known_fact(fact)
        return value

    def span(self, fact: str) -> tuple[date | None, date | None]:
        covers = self.covers.get(fact, Covers())
        return covers.first, covers.last


_PARTS: dict[str, type[BaseModel]] = {"config": Version, "members": Person, "flags": Flags, "covers": Covers}


def read(path: Path) -> Description:
    """Raises RefusedError naming the file, the place and what is wrong there."""
    read = read_yaml(path, yaml.SafeLoader)
    try:
        described = Description.model_validate(read)
    except ValidationError as error:
        raise RefusedError(f"{path}, {told(error, Description, _PARTS)}") from None
    except RefusedError as error:
        raise RefusedError(f"{path}: {error}") from None
    if described.slug != path.parent.name:
        raise RefusedError(
            f"{path}, slug: the folder is named {path.parent.name} and the slug is {described.slug}: make them equal"
        )
    return described


def create(connection: sa.Connection, described: Description) -> None:
    """Adds the tenant with its configuration, people and settings. Raises RefusedError for what cannot stand."""
    tenancy.create(
        connection,
        described.slug,
        described.name,
        described.currency,
        described.id,
        revenue_os_activated_at=described.activated_at,
        **described.flags.model_dump(),
    )
    for version in described.config:
        tenancy.set_config(
            connection, described.id, version.payload,
            author="tenant.yaml", reason=version.reason, valid_from=version.valid_from,
        )  # fmt: skip
    for person in described.members:
        connection.execute(user_tenants.insert().values(tenant_id=described.id, **person.model_dump()))
    for subsystem, fields in described.settings.items():
        for name, value in fields.items():
            connection.execute(
                subsystem_settings.insert().values(
                    tenant_id=described.id, subsystem=subsystem, field=name, value=value
                )
            )
