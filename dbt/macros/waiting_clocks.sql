{#- An instant on two clocks, in microseconds: one that always runs, and one that runs in business hours only
    (Monday to Friday, 9 to 17 local time). The difference of two readings is how long somebody waited. -#}
{% macro waiting_clocks(at, time_zone) -%}
  (false, (extract(epoch from {{ at }}) * 1000000)::bigint),
  (true, (({{ business_seconds(at ~ " at time zone " ~ time_zone) }}) * 1000000)::bigint)
{%- endmacro %}

{#- Business time from Monday 2000-01-03 to a local timestamp. -#}
{% macro business_seconds(local) -%}
  (({{ local }})::date - date '2000-01-03') / 7 * 144000
    + least((({{ local }})::date - date '2000-01-03') % 7, 5) * 28800
    + case when (({{ local }})::date - date '2000-01-03') % 7 < 5
        then least(greatest(extract(epoch from ({{ local }})::time) - 32400, 0), 28800) else 0 end
{%- endmacro %}
