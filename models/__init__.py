"""Database tables by schema, named SQL, migrations and row-level security.

dbt models live under dbt/, estimators under ml/; rules about the rows live in kernel/.
"""
