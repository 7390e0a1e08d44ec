"""What definitions share: partitions, the database, dbt's window, checks, metadata."""
