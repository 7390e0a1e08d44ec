{#- Refuses to build for a run that has ended: a killed run leaves its dbt behind, and another run may have begun.
    The session that holds the lock is handed over by the program; without one, as in a shell, nothing is asked. -#}
{% macro still_ours() -%}
    {#- Read while executing, never while parsing: each run has another, and every model would be parsed anew. -#}
    {%- set holder = env_var("DBT_LOCK_HOLDER", "") if execute else "" -%}
    {%- if holder -%}
        do $$
        begin
            if not exists (
                select from pg_locks where locktype = 'advisory' and granted and pid = {{ holder | int }}
            ) then
                raise exception 'the run that this belongs to has ended';
            end if;
        end $$
    {%- else -%}
        select 1
    {%- endif -%}
{%- endmacro %}
