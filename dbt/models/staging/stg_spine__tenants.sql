with latest_config as (
    select distinct on (tenant_id) tenant_id, payload
    from {{ source('spine', 'config_versions') }}
    order by tenant_id, valid_from desc
)

select
    tenants.id as tenant_id,
    tenants.slug,
    tenants.name,
    tenants.status,
    coalesce(latest_config.payload ->> 'reporting_currency', tenants.default_currency) as reporting_currency,
    coalesce(latest_config.payload ->> 'time_zone', 'UTC') as time_zone,
    coalesce((latest_config.payload ->> 'fiscal_year_start_month')::int, 1) as fiscal_year_start_month,
    coalesce(latest_config.payload ->> 'bookings_basis', 'acv') as bookings_basis
from {{ source('spine', 'tenants') }} as tenants
left join latest_config on latest_config.tenant_id = tenants.id
