{#- Schemas are named as they are: staging and analytics. DBT_SCHEMA_PREFIX sets test builds apart. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ env_var("DBT_SCHEMA_PREFIX", "") ~ (custom_schema_name or target.schema) }}
{%- endmacro %}
