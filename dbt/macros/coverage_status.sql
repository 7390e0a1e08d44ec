{#- Whether a metric's sources speak for a row: covered, undefined, stale_source, or part of its window only.
    `definitions` and `coverage` are aliases of metric_definitions and int_metric_coverage. -#}
{% macro coverage_status(definitions, coverage, metric_date, window_days) -%}
  case
      when {{ definitions }}.sources in ('all', 'contacts', 'finance_inputs_monthly') then 'covered'
      when {{ coverage }}.metric_id is null or {{ metric_date }} < {{ coverage }}.covered_from_date then 'undefined'
      when {{ metric_date }} > {{ coverage }}.covered_to_date then 'stale_source'
      -- A sum over a window that begins before its source would pass a part for the whole; a ratio may
      -- use a part of its window only when both of its parts begin on the same day.
      when ({{ definitions }}.kind = 'flow' or not {{ coverage }}.begins_together)
          and {{ metric_date }} - {{ window_days }} + 1 < {{ coverage }}.covered_from_date
          then 'part'
      else 'covered'
  end
{%- endmacro %}
