"""Landing files that several suites load, and when."""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ACCOUNTS = "source_key,name,segment\na1,Acme,smb\na2,Beta,mid\n"
REVENUE = "source_key,account_key,type,amount,currency,effective_date\n"
