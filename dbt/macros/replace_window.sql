{#- Incremental strategy `replace_window`: afterwards the window holds exactly the new rows, no ghost of an old one.

    Rows that come out the same are left as they are, so a rerun changes not one byte and `computed_at` keeps
    saying when a value was established. Columns named in `volatile_columns` do not count as a change.
    Both statements run in one transaction: a violated constraint takes the delete back too. -#}
{% macro get_incremental_replace_window_sql(args) -%}
  {%- set target, fresh = args["target_relation"], args["temp_relation"] -%}
  {%- set date_column = config.require("window_column") -%}
  {%- set key = config.require("unique_key") -%}
  {%- set columns = args["dest_columns"] | map(attribute="quoted") | list -%}
  {%- set compared = [] -%}
  {%- for column in args["dest_columns"] if column.name not in key + config.get("volatile_columns", []) -%}
    {%- do compared.append(column.quoted) -%}
  {%- endfor -%}

  delete from {{ target }} as old
  where {{ window_predicate("old." ~ date_column, "old.tenant_id") }}
    and not exists (
      select from {{ fresh }} as fresh
      where {% for column in key %}fresh.{{ column }} = old.{{ column }} and {% endfor %}
        (fresh.{{ compared | join(", fresh.") }}) is not distinct from (old.{{ compared | join(", old.") }})
    );

  insert into {{ target }} ({{ columns | join(", ") }})
  select {{ columns | join(", ") }} from {{ fresh }} as fresh
  where not exists (
    select from {{ target }} as kept
    where {{ window_predicate("kept." ~ date_column, "kept.tenant_id") }}
      {% for column in key %}and kept.{{ column }} = fresh.{{ column }} {% endfor %}
  )
{%- endmacro %}
