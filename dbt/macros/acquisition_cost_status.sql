{#- What a cost per customer is: without any row of cost nobody knows, cost without customers is infinite. -#}
{% macro acquisition_cost_status(cost, cost_rows, customers) -%}
  case
    when {{ cost_rows }} = 0 then 'undefined'
    when {{ customers }} > 0 then 'ok'
    when {{ cost }} > 0 then 'infinite'
    else 'undefined'
  end
{%- endmacro %}
