"""The rules of the platform, free of Dagster, dbt and Great Expectations."""
