{#- The run's window, tenants and clock come from the environment: `--vars` would force a full re-parse.
    They are read while executing, never while parsing, and the window has no default: a run without one refuses. -#}

{% macro window_start() -%} '{{ env_var("DBT_WINDOW_START") if execute else "2000-01-01" }}'::date {%- endmacro %}

{#- Exclusive. -#}
{% macro window_end() -%} '{{ env_var("DBT_WINDOW_END") if execute else "2000-01-01" }}'::date {%- endmacro %}

{#- The run's clock, an instant. -#}
{% macro as_of() -%} '{{ env_var("DBT_AS_OF") if execute else "2000-01-01" }}'::timestamptz {%- endmacro %}

{% macro run_id() -%} '{{ env_var("DBT_RUN_ID", "manual") if execute else "" }}' {%- endmacro %}

{#- Days before the tenant's current day that are still provisional. -#}
{% macro restate_days() -%} {{ env_var("DBT_RESTATE_DAYS", "7") if execute else 7 }}::int {%- endmacro %}

{#- The tenants of the run; all of them when none are named. Ids are checked to be uuids before they get here. -#}
{% macro in_scope(column="tenant_id") -%}
  {%- set tenants = env_var("DBT_TENANT_IDS", "") if execute else "" -%}
  {%- if tenants -%} {{ column }} = any('{{ "{" ~ tenants ~ "}" }}'::uuid[]) {%- else -%} true {%- endif -%}
{%- endmacro %}

{% macro window_predicate(date_column, tenant_column="tenant_id") -%}
  {{ date_column }} >= {{ window_start() }} and {{ date_column }} < {{ window_end() }} and {{ in_scope(tenant_column) }}
{%- endmacro %}
