{#- Seconds of business time (Monday to Friday, 9 to 17) from Monday 2000-01-03 to a local timestamp; the
    difference of two is the business time between them. -#}
{% macro business_seconds(local) -%}
  (({{ local }})::date - date '2000-01-03') / 7 * 144000
    + least((({{ local }})::date - date '2000-01-03') % 7, 5) * 28800
    + case when (({{ local }})::date - date '2000-01-03') % 7 < 5
        then least(greatest(extract(epoch from ({{ local }})::time) - 32400, 0), 28800) else 0 end
{%- endmacro %}
