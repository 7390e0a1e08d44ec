"""Which tenants a run is for."""

from uuid import UUID

import dagster as dg
from pydantic import Field, field_validator


class TenantScope(dg.Config):
    tenant_ids: list[str] = Field(
        default_factory=list, description="Ids of the tenants to compute; every tenant when left empty."
    )

    @field_validator("tenant_ids")
    @classmethod
    def _are_uuids(cls, values: list[str]) -> list[str]:
        # They end up in dbt's environment and from there in SQL, so nothing but a uuid may pass.
        return [str(UUID(value)) for value in values]
