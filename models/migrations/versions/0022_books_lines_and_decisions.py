"""Books: bank lines, what is learnt and decided of them, stages, exports and budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from models import rls

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_APPEND_ONLY = (
    "sightings", "rejected_lines", "books_settings", "labels", "calibrators", "certificates", "decisions", "decision_confidence",
    "books_stages", "export_log", "export_files", "transfers",
)  # fmt: skip
# Of the others, what may change of a row; the rest of it, and the row, stay.
_CHANGING = {
    "statement_files": ("new_count", "known_count"),
    "transactions": ("suspected_of",),
    "rules": ("status", "evidence", "decided_by", "decided_at"),
    "models": ("status", "metrics", "reason"),
    "canaries": ("percent", "step_at", "status", "reason", "ended_at"),
    "export_batches": ("status", "exported_at"),
    "llm_months": ("reserved_micros", "spent_micros", "fallback_reason", "fallback_since", "fallback_cap"),
    "llm_calls": ("status", "spent_micros", "prompt_tokens", "completion_tokens", "answer", "settled_at"),
}  # fmt: skip
# Matches are proposals until a person takes them back: they may go.
# Tokens go with the person that they stand for.
_FREE = ("reconciliation_matches", "api_tokens")

_ONLY_CHANGES = """
create function books.only_changes() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'UPDATE' then
        if to_jsonb(old) - tg_argv = to_jsonb(new) - tg_argv then return new; end if;
        raise exception 'of a row of books.% nothing changes but %', tg_table_name, array_to_string(tg_argv, ', ')
            using errcode = 'restrict_violation';
    end if;
    if tg_op = 'DELETE' and not exists (select from spine.tenants where id = old.tenant_id) then return old; end if;
    raise exception '% on books.% is refused: what was noted stays', tg_op, tg_table_name using errcode = 'restrict_violation';
end $$
"""


def upgrade() -> None:
    _create_tables()
    op.create_foreign_key(
        op.f("journal_entries_tenant_id_source_txn_id_fkey"),
        "journal_entries", "transactions", ["tenant_id", "source_txn_id"], ["tenant_id", "id"],
        source_schema="books", referent_schema="books",
    )  # fmt: skip
    for name in (*_APPEND_ONLY, *_CHANGING, *_FREE):
        for statement in rls.protect(f"books.{name}", append_only=name in _APPEND_ONLY):
            op.execute(statement)
    # Owning needs the right to create, for a moment.
    op.execute(f"grant create on schema books to {rls.SERVICE}")
    op.execute(_ONLY_CHANGES)
    op.execute(f"alter function books.only_changes() owner to {rls.SERVICE}")
    op.execute("revoke execute on function books.only_changes() from public")
    op.execute(f"revoke create on schema books from {rls.SERVICE}")
    for name, columns in _CHANGING.items():
        op.execute(
            f"create trigger only_changes before update or delete on books.{name}"
            f" for each row execute function books.only_changes({', '.join(map(repr, columns))})"
        )
        op.execute(
            f"create trigger refuse_truncate before truncate on books.{name}"
            " for each statement execute function books.only_changes()"
        )


def _create_tables() -> None:
    _create_settings_and_budgets()
    _create_lines_and_rules()
    _create_decisions_and_matches()


def _create_settings_and_budgets() -> None:
    op.create_table(
        "books_settings",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("payload", pg.JSONB(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("jsonb_typeof(payload) = 'object'", name=op.f("books_settings_payload_check")),
        sa.CheckConstraint("version > 0", name=op.f("books_settings_version_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("books_settings_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "version", name=op.f("books_settings_pkey")),
        schema="books",
    )
    op.create_table(
        "books_stages",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("evidence_hash", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(stage = 'P3') = (approved_by is not null and expires_at is not null)",
            name=op.f("books_stages_approved_check"),
        ),
        sa.CheckConstraint("stage in ('P0', 'P1', 'P2', 'P3')", name=op.f("books_stages_stage_check")),
        sa.CheckConstraint("number > 0", name=op.f("books_stages_number_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("books_stages_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("books_stages_pkey")),
        schema="books",
    )
    op.create_table(
        "calibrators",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_to", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("parameters", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("metrics", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("label_count", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "method in ('isotonic', 'platt', 'temperature', 'none')", name=op.f("calibrators_method_check")
        ),
        sa.CheckConstraint("window_from < window_to", name=op.f("calibrators_window_to_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("calibrators_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "version", name=op.f("calibrators_pkey")),
        schema="books",
    )
    op.create_table(
        "canaries",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("challenger", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("step_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'running') = (ended_at is null)", name=op.f("canaries_ended_at_check")),
        sa.CheckConstraint(
            "kind in ('model', 'ruleset', 'calibrator', 'autopost')", name=op.f("canaries_kind_check")
        ),
        sa.CheckConstraint(
            "status in ('running', 'promoted', 'reverted')", name=op.f("canaries_status_check")
        ),
        sa.CheckConstraint("percent in (5, 10, 50, 100)", name=op.f("canaries_percent_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("canaries_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("canaries_pkey")),
        schema="books",
    )
    op.create_index(
        "canaries_running_key",
        "canaries",
        ["tenant_id", "kind"],
        unique=True,
        schema="books",
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "certificates",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("certified_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("threshold", sa.Numeric(precision=9, scale=8), nullable=True),
        sa.Column("target", sa.Numeric(precision=9, scale=8), nullable=False),
        sa.Column("lower_bound", sa.Numeric(precision=9, scale=8), nullable=True),
        sa.Column("checked_count", sa.Integer(), nullable=False),
        sa.Column("right_count", sa.Integer(), nullable=False),
        sa.Column("calibrator_version", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.CheckConstraint(
            "(threshold is null) = (reason is not null)", name=op.f("certificates_reason_check")
        ),
        sa.CheckConstraint("expires_at > certified_at", name=op.f("certificates_expires_at_check")),
        sa.CheckConstraint("lower_bound between 0 and 1", name=op.f("certificates_lower_bound_check")),
        sa.CheckConstraint("number > 0", name=op.f("certificates_number_check")),
        sa.CheckConstraint("threshold between 0 and 1", name=op.f("certificates_threshold_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("certificates_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("certificates_pkey")),
        schema="books",
    )
    op.create_table(
        "export_batches",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("skipped_count", sa.Integer(), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'exported') = (exported_at is not null)", name=op.f("export_batches_exported_check")
        ),
        sa.CheckConstraint("status in ('pending', 'exported')", name=op.f("export_batches_status_check")),
        sa.CheckConstraint("target in ('qbo_csv', 'xero_csv')", name=op.f("export_batches_target_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("export_batches_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("export_batches_pkey")),
        schema="books",
    )
    op.create_index(
        "export_batches_pending_idx",
        "export_batches",
        ["tenant_id", "target"],
        unique=False,
        schema="books",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "export_files",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "batch_id"],
            ["books.export_batches.tenant_id", "books.export_batches.id"],
            name=op.f("export_files_tenant_id_batch_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("export_files_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "batch_id", name=op.f("export_files_pkey")),
        schema="books",
    )
    op.create_table(
        "api_tokens",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(token_hash) = 32", name=op.f("api_tokens_token_hash_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "user_id"],
            ["spine.user_tenants.tenant_id", "spine.user_tenants.user_id"],
            name=op.f("api_tokens_tenant_id_user_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("api_tokens_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("api_tokens_pkey")),
        schema="books",
    )
    op.create_index("api_tokens_token_hash_key", "api_tokens", ["token_hash"], unique=True, schema="books")
    op.create_table(
        "llm_months",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("reserved_micros", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("fallback_reason", sa.Text(), nullable=True),
        sa.Column("fallback_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fallback_cap", sa.Numeric(), nullable=True),
        sa.CheckConstraint(
            "fallback_reason in ('calls_per_txn_exceeded', 'tenant_budget_exceeded', 'global_budget_exceeded')",
            name=op.f("llm_months_fallback_reason_check"),
        ),
        sa.CheckConstraint(
            "year_month ~ '^\\d{4}-(0[1-9]|1[0-2])$'", name=op.f("llm_months_year_month_check")
        ),
        sa.CheckConstraint(
            "num_nulls(fallback_reason, fallback_since, fallback_cap) in (0, 3)",
            name=op.f("llm_months_fallback_check"),
        ),
        sa.CheckConstraint(
            "reserved_micros >= 0 and spent_micros >= 0", name=op.f("llm_months_micros_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("llm_months_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "year_month", name=op.f("llm_months_pkey")),
        schema="books",
    )


def _create_lines_and_rules() -> None:
    op.create_table(
        "models",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=True),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("trained_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trained_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("label_count", sa.Integer(), nullable=False),
        sa.Column("parameters", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("metrics", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("status", sa.Text(), server_default="candidate", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "status in ('candidate', 'active', 'retired', 'refused')", name=op.f("models_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("models_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "version", name=op.f("models_pkey")),
        schema="books",
    )
    op.create_index(
        "models_active_key",
        "models",
        ["tenant_id"],
        unique=True,
        schema="books",
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "export_log",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.CheckConstraint("target in ('qbo_csv', 'xero_csv')", name=op.f("export_log_target_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "batch_id"],
            ["books.export_batches.tenant_id", "books.export_batches.id"],
            name=op.f("export_log_tenant_id_batch_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "entry_id"],
            ["books.journal_entries.tenant_id", "books.journal_entries.id"],
            name=op.f("export_log_tenant_id_entry_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("export_log_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "target", "external_id", name=op.f("export_log_pkey")),
        sa.UniqueConstraint(
            "tenant_id", "batch_id", "place", name=op.f("export_log_tenant_id_batch_id_place_key")
        ),
        sa.UniqueConstraint(
            "tenant_id", "target", "entry_id", name=op.f("export_log_tenant_id_target_entry_id_key")
        ),
        schema="books",
    )
    op.create_table(
        "rules",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("match", sa.Text(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("conditions", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("account_code", sa.Text(), nullable=True),
        sa.Column("category", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="100", nullable=False),
        sa.Column("status", sa.Text(), server_default="candidate", nullable=False),
        sa.Column("evidence", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("proposed_by", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'candidate') = (decided_at is null)", name=op.f("rules_decided_at_check")
        ),
        sa.CheckConstraint("match in ('exact_vendor', 'regex')", name=op.f("rules_match_check")),
        sa.CheckConstraint(
            "status in ('candidate', 'active', 'retired', 'rejected')", name=op.f("rules_status_check")
        ),
        sa.CheckConstraint(
            "(account_code is null) <> (category is null)", name=op.f("rules_means_one_check")
        ),
        sa.CheckConstraint("length(pattern) between 1 and 200", name=op.f("rules_pattern_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_code"],
            ["books.accounts.tenant_id", "books.accounts.code"],
            name=op.f("rules_tenant_id_account_code_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("rules_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("rules_pkey")),
        schema="books",
    )
    op.create_index(
        "rules_active_key",
        "rules",
        ["tenant_id", "match", "pattern", "conditions"],
        unique=True,
        schema="books",
        postgresql_where=sa.text("status in ('candidate', 'active')"),
    )
    op.create_table(
        "statement_files",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("bank_account_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mapping", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("mapping_sha256", sa.Text(), server_default="", nullable=False),
        sa.Column("first_date", sa.Date(), nullable=True),
        sa.Column("last_date", sa.Date(), nullable=True),
        sa.Column("line_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("new_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("known_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("rejected_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opening_minor", sa.BigInteger(), nullable=True),
        sa.Column("closing_minor", sa.BigInteger(), nullable=True),
        sa.Column("tie_out", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("off_minor", sa.BigInteger(), nullable=True),
        sa.Column("imported_by", sa.Text(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(tie_out = 'off') = (off_minor is not null)", name=op.f("statement_files_off_minor_check")
        ),
        sa.CheckConstraint(
            "format in ('csv', 'ofx', 'camt053', 'mt940')", name=op.f("statement_files_format_check")
        ),
        sa.CheckConstraint(
            "tie_out in ('tied', 'off', 'unknown')", name=op.f("statement_files_tie_out_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "bank_account_id"],
            ["books.bank_accounts.tenant_id", "books.bank_accounts.id"],
            name=op.f("statement_files_tenant_id_bank_account_id_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("statement_files_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("statement_files_pkey")),
        sa.UniqueConstraint(
            "tenant_id",
            "id",
            "bank_account_id",
            name=op.f("statement_files_tenant_id_id_bank_account_id_key"),
        ),
        sa.UniqueConstraint(
            "tenant_id",
            "bank_account_id",
            "sha256",
            "mapping_sha256",
            name=op.f("statement_files_tenant_id_bank_account_id_sha256_mapping_sha256_key"),
        ),
        schema="books",
    )
    op.create_table(
        "rejected_lines",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("line_no", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "file_id"],
            ["books.statement_files.tenant_id", "books.statement_files.id"],
            name=op.f("rejected_lines_tenant_id_file_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("rejected_lines_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "file_id", "line_no", name=op.f("rejected_lines_pkey")),
        schema="books",
    )
    op.create_table(
        "transactions",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("bank_account_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("occurrence", sa.Integer(), server_default="1", nullable=False),
        sa.Column("bank_ref", sa.Text(), nullable=True),
        sa.Column("post_date", sa.Date(), nullable=False),
        sa.Column("value_date", sa.Date(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("counterparty", sa.Text(), server_default="", nullable=False),
        sa.Column("vendor", sa.Text(), server_default="", nullable=False),
        sa.Column("reference", sa.Text(), server_default="", nullable=False),
        sa.Column("bank_category", sa.Text(), server_default="", nullable=False),
        sa.Column("card", sa.Text(), server_default="", nullable=False),
        sa.Column("raw", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("first_file_id", sa.Uuid(), nullable=False),
        sa.Column("first_line_no", sa.Integer(), nullable=True),
        sa.Column("suspected_of", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("transactions_currency_check")),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("transactions_amount_minor_check")),
        sa.CheckConstraint("occurrence > 0", name=op.f("transactions_occurrence_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "first_file_id", "bank_account_id"],
            [
                "books.statement_files.tenant_id",
                "books.statement_files.id",
                "books.statement_files.bank_account_id",
            ],
            name=op.f("transactions_tenant_id_first_file_id_bank_account_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "suspected_of"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("transactions_tenant_id_suspected_of_fkey"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("transactions_pkey")),
        schema="books",
    )
    op.create_index(
        "transactions_date_idx",
        "transactions",
        ["tenant_id", "bank_account_id", "post_date"],
        unique=False,
        schema="books",
    )
    op.create_index(
        "transactions_bank_ref_idx",
        "transactions",
        ["tenant_id", "bank_account_id", "bank_ref"],
        unique=False,
        schema="books",
        postgresql_where=sa.text("bank_ref is not null"),
    )
    op.create_index(
        "transactions_vendor_idx",
        "transactions",
        ["tenant_id", "vendor", "post_date"],
        unique=False,
        schema="books",
    )


def _create_decisions_and_matches() -> None:
    op.create_table(
        "decisions",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("txn_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("proposed_account", sa.Text(), nullable=True),
        sa.Column("raw_p", sa.Numeric(precision=9, scale=8), nullable=True),
        sa.Column("calibrated_p", sa.Numeric(precision=9, scale=8), nullable=True),
        sa.Column("threshold", sa.Numeric(precision=9, scale=8), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("not_auto_post_reason", sa.Text(), nullable=True),
        sa.Column("failures", pg.ARRAY(sa.Text()), nullable=False),
        sa.Column("is_audited", sa.Boolean(), nullable=False),
        sa.Column("label_count", sa.Integer(), nullable=False),
        sa.Column("is_new_vendor", sa.Boolean(), nullable=False),
        sa.Column("ruleset_version", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("calibrator_version", sa.Text(), nullable=False),
        sa.Column("config_version", sa.Text(), nullable=False),
        sa.Column("feature_hash", sa.Text(), nullable=False),
        sa.Column("explain", pg.JSONB(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(verdict = 'review') = (not_auto_post_reason is not null)",
            name=op.f("decisions_reason_of_review_check"),
        ),
        sa.CheckConstraint(
            "not_auto_post_reason in ('cold_start', 'below_threshold', 'imbalance', 'budget_fallback', 'anomaly', 'rule_conflict')",
            name=op.f("decisions_not_auto_post_reason_check"),
        ),
        sa.CheckConstraint(
            "verdict = 'review' or proposed_account is not null",
            name=op.f("decisions_proposed_account_check"),
        ),
        sa.CheckConstraint(
            "verdict in ('review', 'would_post', 'posted')", name=op.f("decisions_verdict_check")
        ),
        sa.CheckConstraint("calibrated_p between 0 and 1", name=op.f("decisions_calibrated_p_check")),
        sa.CheckConstraint("raw_p between 0 and 1", name=op.f("decisions_raw_p_check")),
        sa.CheckConstraint("threshold between 0 and 1", name=op.f("decisions_threshold_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("decisions_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("decisions_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("decisions_pkey")),
        schema="books",
    )
    op.create_index(
        "decisions_time_idx", "decisions", ["tenant_id", "decided_at"], unique=False, schema="books"
    )
    op.create_index(
        "decisions_txn_idx", "decisions", ["tenant_id", "txn_id", "number"], unique=False, schema="books"
    )
    op.create_table(
        "decision_confidence",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("confidence", sa.Numeric(precision=9, scale=8), nullable=True),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("confidence between 0 and 1", name=op.f("decision_confidence_confidence_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "number"],
            ["books.decisions.tenant_id", "books.decisions.number"],
            name=op.f("decision_confidence_tenant_id_number_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("decision_confidence_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "number", name=op.f("decision_confidence_pkey")),
        schema="books",
    )
    op.create_table(
        "labels",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("txn_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account_code", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("decision_number", sa.BigInteger(), nullable=True),
        sa.Column("labelled_by", sa.Text(), nullable=False),
        sa.Column("labelled_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "source in ('approve', 'correct', 'bulk', 'booked', 'audit')", name=op.f("labels_source_check")
        ),
        sa.CheckConstraint("number > 0", name=op.f("labels_number_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_code"],
            ["books.accounts.tenant_id", "books.accounts.code"],
            name=op.f("labels_tenant_id_account_code_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("labels_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("labels_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "txn_id", "number", name=op.f("labels_pkey")),
        schema="books",
    )
    op.create_index("labels_time_idx", "labels", ["tenant_id", "labelled_at"], unique=False, schema="books")
    op.create_table(
        "llm_calls",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("txn_id", sa.Uuid(), nullable=False),
        sa.Column("year_month", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("cache_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="reserved", nullable=False),
        sa.Column("reserved_micros", sa.BigInteger(), nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("answer", pg.JSONB(), nullable=True),
        sa.Column("reserved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'settled') = (spent_micros is not null)", name=op.f("llm_calls_spent_micros_check")
        ),
        sa.CheckConstraint(
            "status in ('reserved', 'settled', 'released')", name=op.f("llm_calls_status_check")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("llm_calls_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "year_month"],
            ["books.llm_months.tenant_id", "books.llm_months.year_month"],
            name=op.f("llm_calls_tenant_id_year_month_fkey"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("llm_calls_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("llm_calls_pkey")),
        schema="books",
    )
    op.create_index(
        "llm_calls_time_idx", "llm_calls", ["tenant_id", "reserved_at"], unique=False, schema="books"
    )
    op.create_index(
        "llm_calls_cache_idx", "llm_calls", ["tenant_id", "cache_key"], unique=False, schema="books"
    )
    op.create_index(
        "llm_calls_reserved_idx",
        "llm_calls",
        ["tenant_id", "reserved_at"],
        unique=False,
        schema="books",
        postgresql_where=sa.text("status = 'reserved'"),
    )
    op.create_table(
        "reconciliation_matches",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("txn_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("score", sa.Numeric(precision=4, scale=3), nullable=False),
        sa.Column("matched_by", sa.Text(), nullable=False),
        sa.Column("matched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.CheckConstraint(
            "kind in ('link', 'exact', 'heuristic', 'allocation')",
            name=op.f("reconciliation_matches_kind_check"),
        ),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("reconciliation_matches_amount_minor_check")),
        sa.CheckConstraint("score > 0 and score <= 1", name=op.f("reconciliation_matches_score_check")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "entry_id"],
            ["books.journal_entries.tenant_id", "books.journal_entries.id"],
            name=op.f("reconciliation_matches_tenant_id_entry_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("reconciliation_matches_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["spine.tenants.id"],
            name=op.f("reconciliation_matches_tenant_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "txn_id", "entry_id", name=op.f("reconciliation_matches_pkey")),
        schema="books",
    )
    op.create_index(
        "reconciliation_matches_entry_idx",
        "reconciliation_matches",
        ["tenant_id", "entry_id"],
        unique=False,
        schema="books",
    )
    op.create_table(
        "transfers",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("txn_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "entry_id"],
            ["books.journal_entries.tenant_id", "books.journal_entries.id"],
            name=op.f("transfers_tenant_id_entry_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("transfers_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["spine.tenants.id"], name=op.f("transfers_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "entry_id", name=op.f("transfers_pkey")),
        schema="books",
    )
    op.create_index("transfers_txn_idx", "transfers", ["tenant_id", "txn_id"], unique=False, schema="books")
    op.create_table(
        "sightings",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("line_no", sa.Integer(), nullable=False),
        sa.Column("txn_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "file_id"],
            ["books.statement_files.tenant_id", "books.statement_files.id"],
            name=op.f("sightings_tenant_id_file_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "txn_id"],
            ["books.transactions.tenant_id", "books.transactions.id"],
            name=op.f("sightings_tenant_id_txn_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant_id", "file_id", "line_no", name=op.f("sightings_pkey")),
        schema="books",
    )
    op.create_index("sightings_txn_idx", "sightings", ["tenant_id", "txn_id"], unique=False, schema="books")
