{#- `amount` of the aliased relation in the tenant's reporting currency; needs fx_join on the same alias. -#}
{% macro converted(amount, currency) -%}
  case when {{ currency }} = tenants.reporting_currency then {{ amount }} else {{ amount }} * fx.rate end
{%- endmacro %}

{% macro fx_join(relation, currency, date) -%}
  inner join {{ ref('stg_spine__tenants') }} as tenants on tenants.tenant_id = {{ relation }}.tenant_id
  left join {{ ref('int_fx_daily') }} as fx
      on fx.tenant_id = {{ relation }}.tenant_id
      and fx.currency = {{ relation }}.{{ currency }}
      and fx.rate_date = {{ date }}
{%- endmacro %}
