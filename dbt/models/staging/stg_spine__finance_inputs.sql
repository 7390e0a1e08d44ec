select
    tenant_id,
    month as month_start_date,
    (month + interval '1 month' - interval '1 day')::date as month_end_date,
    currency,
    cash_balance,
    net_burn,
    headcount_fte,
    variable_cost_share
from {{ source('spine', 'finance_inputs_monthly') }}
