{#- How metric rows are written down. A family model turns wide daily columns into rows:

      select daily.tenant_id, daily.metric_date, metric.*
      from daily cross join lateral (values {{ flow(...) }}, {{ ratio(...) }}) as {{ metric_columns() }}

    Families say what a value is and which null rule of its own it meets; whether its sources cover the day is
    decided once for all, in metric_snapshots_daily. -#}

{% macro metric_columns() -%}
  metric (metric_id, dimension, value, value_status, numerator, denominator, sample_size, window_days)
{%- endmacro %}

{#- One row. `status` is a SQL expression; `dimension` a jsonb expression. -#}
{% macro metric(id, value, status="'ok'", numerator="null", denominator="null", sample="null", window=1,
                dimension="'{}'::jsonb") -%}
  ('{{ id }}', {{ dimension }}, ({{ value }})::numeric, ({{ status }})::text, ({{ numerator }})::numeric,
   ({{ denominator }})::numeric, ({{ sample }})::bigint, {{ window }})
{%- endmacro %}

{#- A day's count or sum, and its T7, T30 and T90 sums in columns `<column>_t7` and so on (see rolling_sums).
    `sample` is the column that counts the rows; its rolling sums are needed too. -#}
{% macro flow(id, column, sample=none, status="'ok'") -%}
  {%- set sample = sample or column -%}
  {{ metric(id, column, status, numerator=column, sample=sample) }}
  {%- for days in [7, 30, 90] %},
  {{ metric(id, column ~ "_t" ~ days, status, numerator=column ~ "_t" ~ days, sample=sample ~ "_t" ~ days,
            window=days, dimension="'{\"window\": \"T" ~ days ~ "\"}'::jsonb") }}
  {%- endfor %}
{%- endmacro %}

{#- The state at the end of the day. -#}
{% macro state(id, column, sample, dimension="'{}'::jsonb", window=1) -%}
  {{ metric(id, column, numerator=column, sample=sample, dimension=dimension, window=window) }}
{%- endmacro %}

{#- numerator / denominator x scale; undefined when the denominator is null or 0, insufficient below `minimum`. -#}
{% macro ratio(id, numerator, denominator, sample=none, window=30, dimension="'{}'::jsonb", minimum=none, scale=1) -%}
  {%- set sample = sample or denominator -%}
  {%- set status -%}
    case when coalesce({{ denominator }}, 0) = 0 or ({{ numerator }}) is null then 'undefined'
      {%- if minimum %} when {{ sample }} < {{ minimum }} then 'insufficient_sample'{% endif %} else 'ok' end
  {%- endset -%}
  {%- set value -%}
    ({{ numerator }})::numeric{% if scale != 1 %} * {{ scale }}{% endif %} / nullif(({{ denominator }})::numeric, 0)
  {%- endset -%}
  {{ metric(id, value, status, numerator, denominator, sample, window, dimension) }}
{%- endmacro %}

{#- `<column>_t<days>` for each column: sums over the trailing days of a dense tenant-day relation. -#}
{% macro rolling_sums(columns, days=[7, 30, 90]) -%}
  {%- for column in columns -%}
    {%- for n in days %}
    sum({{ column }}) over (
      partition by tenant_id order by metric_date rows between {{ n - 1 }} preceding and current row
    ) as {{ column }}_t{{ n }}{{ "," if not loop.last }}
    {%- endfor -%}{{ "," if not loop.last }}
  {%- endfor -%}
{%- endmacro %}

{#- The canonical text of a dimension: pairs sorted by name, joined by a bar; empty for the tenant's total.
    jsonb keeps its keys ordered by length and then bytes, hence the explicit sort. -#}
{% macro dimension_key(column) -%}
  coalesce((select string_agg(pair.key || '=' || pair.value, '|' order by pair.key collate "C")
            from jsonb_each_text({{ column }}) as pair), '')
{%- endmacro %}
