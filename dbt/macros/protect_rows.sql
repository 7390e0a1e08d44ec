{#- Row-level security for the tables dbt builds, the same rule as models/rls.py has for the spine. -#}
{% macro protect_rows(relation) -%}
  {%- if model.config.materialized != "view" -%}
  {%- set pinned = "(select nullif(current_setting('app.tenant_id', true), '')::uuid)" -%}
  {%- set readers = "revenue_member, revenue_analyst" if relation.schema.endswith("analytics") else "revenue_analyst" -%}
  alter table {{ relation }} enable row level security;
  alter table {{ relation }} force row level security;
  drop policy if exists service on {{ relation }};
  create policy service on {{ relation }} to revenue_service
    -- A case and not an or: the planner takes half of the rows for such a condition, but one in 200 for the or,
    -- and joins tables of a million rows in nested loops.
    using (case when {{ pinned }} is null then true else tenant_id = {{ pinned }} end);
  drop policy if exists member on {{ relation }};
  create policy member on {{ relation }} for select to revenue_member using (tenant_id = (select spine.session_tenant()));
  drop policy if exists analyst on {{ relation }};
  create policy analyst on {{ relation }} for select to revenue_analyst using (true);
  grant select on {{ relation }} to {{ readers }};
  -- What follows in the same run is planned from the rows just written.
  analyze {{ relation }}
  {%- endif -%}
{%- endmacro %}
