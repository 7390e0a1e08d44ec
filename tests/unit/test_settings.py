"""Settings: what they refuse, what they default to, and that their reference page tells the same. No database."""

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from dagster_project import settings as module
from dagster_project.settings import REPOSITORY, Settings, SettingsError, names, settings
from kernel.books.llm_budget import Limits
from models import address
from models.server import Server

PAGE = REPOSITORY / "docs" / "reference" / "settings.md"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Settings]:
    """Reads the settings of an environment and of a .env file with these lines, and of nothing else."""
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    for name in names():
        monkeypatch.delenv(name, raising=False)

    def read(*lines: str, **environment: str) -> Settings:
        (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return settings.__wrapped__()

    return read


def documented() -> dict[str, str]:
    """The reference table: each setting's name and its default as written."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: default.strip().strip("`") for name, default in rows}


def test_every_setting_stands_in_the_reference_and_every_documented_one_exists():
    assert list(documented()) == names()


def test_the_documented_defaults_are_the_real_ones(read):
    real = read()
    shown = {
        "DATABASE_URL": "the embedded server" if real.database_url is None else real.database_url,
        "REVENUE_OS_HOME": str(real.home.relative_to(REPOSITORY)),
        "REVENUE_OS_LANDING_DIR": f"REVENUE_OS_HOME/{real.landing_dir.relative_to(real.home)}",
        "REVENUE_OS_USAGE_INBOX": f"REVENUE_OS_HOME/{real.usage_inbox.relative_to(real.home)}",
        "REVENUE_OS_USAGE_EVENTS": f"REVENUE_OS_HOME/{real.usage_events.relative_to(real.home)}",
        "REVENUE_OS_USAGE_ARCHIVE": f"REVENUE_OS_HOME/{real.usage_archive.relative_to(real.home)}",
        "REVENUE_OS_BOOKS_INBOX": f"REVENUE_OS_HOME/{real.books_inbox.relative_to(real.home)}",
        "REVENUE_OS_BOOKS_MODELS": f"REVENUE_OS_HOME/{real.books_models.relative_to(real.home)}",
        "REVENUE_OS_BOOKS_EXPORTS": f"REVENUE_OS_HOME/{real.books_exports.relative_to(real.home)}",
        "REVENUE_OS_BOOKS_REPORTS": f"REVENUE_OS_HOME/{real.books_reports.relative_to(real.home)}",
        "REVENUE_OS_ENV": real.env,
        "APP_EXECUTOR": real.app_executor,
        "REVENUE_OS_RESTATE_DAYS": str(real.restate_days),
        "REVENUE_OS_PARTITION_START": real.partition_start.isoformat(),
        "REVENUE_OS_USER": real.user or "none",
        "REVENUE_OS_EVIDENCE_KEY": str(real.evidence_key or "none"),
        "REVENUE_OS_LIVE_EMAIL": str(real.live_email or "none"),
        "REVENUE_OS_LIVE_VOICE": str(real.live_voice or "none"),
        "REVENUE_OS_TELL_WEBHOOK": real.tell_webhook or "none",
        "REVENUE_OS_TELL_WEBHOOK_SECRET": real.tell_webhook_secret or "none",
        "REVENUE_OS_TELL_EMAIL": real.tell_email or "none",
        "REVENUE_OS_TELL_FROM": real.tell_from or "none",
        "REVENUE_OS_TELL_SMTP": real.tell_smtp or "none",
        "REVENUE_OS_TELL_SMTP_PASSWORD": real.tell_smtp_password or "none",
        "REVENUE_OS_LLM_URL": real.llm_url or "none",
        "REVENUE_OS_LLM_MODEL": real.llm_model or "none",
        "REVENUE_OS_LLM_KEY": real.llm_key or "none",
        "REVENUE_OS_LLM_GLOBAL_CAP_USD": str(real.llm_global_cap_usd),
        "REVENUE_OS_LLM_CALLS_PER_LINE": str(real.llm_calls_per_line),
        "OPSMANTIK_IDEMPOTENCY_VERSION": real.idempotency_version,
    }
    assert documented() == shown


def test_the_documented_choices_are_the_real_ones():
    page = PAGE.read_text(encoding="utf-8")
    for field in (Settings.model_fields["env"], Settings.model_fields["app_executor"]):
        row = re.search(rf"^\| `{field.validation_alias}` .*$", page, flags=re.MULTILINE).group()
        for choice in field.annotation.__args__:
            assert f"`{choice}`" in row


def test_the_environment_wins_over_the_env_file(read):
    assert read("REVENUE_OS_RESTATE_DAYS=3").restate_days == 3
    assert read("REVENUE_OS_RESTATE_DAYS=3", REVENUE_OS_RESTATE_DAYS="4").restate_days == 4


def test_an_empty_variable_is_no_setting(read):
    assert read(APP_EXECUTOR="", DATABASE_URL="").database_url is None


def test_the_landing_folder_follows_home_unless_it_is_named(read):
    assert read(REVENUE_OS_HOME="/srv/revenue").landing_dir == Path("/srv/revenue/landing")
    assert read(REVENUE_OS_LANDING_DIR="/srv/in").landing_dir == Path("/srv/in")


def test_a_relative_folder_is_the_same_from_every_working_directory(read, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert read(REVENUE_OS_HOME="state").home == REPOSITORY / "state"


def test_a_date_is_read_as_one(read):
    assert read(REVENUE_OS_PARTITION_START="2025-02-28").partition_start == date(2025, 2, 28)


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_misspelled_setting_is_refused(read, where: str):
    with pytest.raises(SettingsError, match="no setting REVENUE_OS_HOMES: remove it, or choose among"):
        if where == "environment":
            read(REVENUE_OS_HOMES="x")
        else:
            read("REVENUE_OS_HOMES=x")


def test_variables_of_other_programs_are_left_alone(read):
    assert read("PGPASSWORD=x", "DAGSTER_HOME=y") == read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REVENUE_OS_ENV", "staging"),
        ("APP_EXECUTOR", "dask"),
        ("REVENUE_OS_RESTATE_DAYS", "91"),
        ("REVENUE_OS_RESTATE_DAYS", "-1"),
        ("REVENUE_OS_RESTATE_DAYS", "a week"),
        ("REVENUE_OS_PARTITION_START", "2024-13-01"),
        ("REVENUE_OS_LLM_GLOBAL_CAP_USD", "-1"),
        ("REVENUE_OS_LLM_GLOBAL_CAP_USD", "NaN"),
        ("REVENUE_OS_LLM_CALLS_PER_LINE", "11"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_name(read, name: str, value: str):
    with pytest.raises(SettingsError, match=rf"cannot be used: {name}: "):
        read(**{name: value})


HOOK = {
    "REVENUE_OS_TELL_WEBHOOK": "https://hooks.example/usage",
    "REVENUE_OS_TELL_WEBHOOK_SECRET": "a secret of the hook",
}
MAIL = {
    "REVENUE_OS_TELL_EMAIL": "ops@acme.example, billing@acme.example",
    "REVENUE_OS_TELL_FROM": "usage@acme.example",
    "REVENUE_OS_TELL_SMTP": "smtp://usage@mail.acme.example:2525",
    "REVENUE_OS_TELL_SMTP_PASSWORD": "s3cret of the mailbox",
}


def test_people_are_told_by_the_ways_that_are_set(read):
    assert read().tellers() == []
    (hook, mail) = read(**HOOK, **MAIL).tellers()
    assert hook.url == HOOK["REVENUE_OS_TELL_WEBHOOK"]
    assert mail.recipients == ("ops@acme.example", "billing@acme.example")


@pytest.mark.parametrize("missing", [*HOOK, *MAIL])
def test_a_way_of_telling_that_is_half_set_is_refused(read, missing: str):
    given = HOOK if missing in HOOK else MAIL
    with pytest.raises(SettingsError, match="together"):
        read(**{name: value for name, value in given.items() if name != missing})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (HOOK | {"REVENUE_OS_TELL_WEBHOOK": "http://hooks.example/usage"}, "no https address"),
        (HOOK | {"REVENUE_OS_TELL_WEBHOOK_SECRET": "short"}, "shorter than 16"),
        (MAIL | {"REVENUE_OS_TELL_EMAIL": "ops"}, "'ops' is no e-mail address"),
        (MAIL | {"REVENUE_OS_TELL_SMTP": "mail.acme.example"}, "mail server is no address"),
        (MAIL | {"REVENUE_OS_TELL_SMTP": "smtp://usage:pw@mail.acme.example"}, "without a password"),
    ],
)
def test_a_way_of_telling_that_cannot_be_used_is_refused(read, given: dict[str, str], told: str):
    with pytest.raises(SettingsError, match=told):
        read(**given)


def test_no_secret_of_telling_is_in_the_settings_text(read):
    told = f"{read(**HOOK, **MAIL)!r} {read().tellers()}"
    assert not [value for value in (*HOOK.values(), "s3cret of the mailbox") if value in told]


MODEL = {
    "REVENUE_OS_LLM_URL": "https://llm.example/v1",
    "REVENUE_OS_LLM_MODEL": "gpt-4o-mini",
    "REVENUE_OS_LLM_KEY": "sk-secret",
}


def test_the_language_model_that_is_set_may_be_asked(read):
    assert read().labeller() is None
    made = read(**MODEL, REVENUE_OS_LLM_CALLS_PER_LINE="0.1", REVENUE_OS_LLM_GLOBAL_CAP_USD="5")
    assert (made.labeller().model, made.labeller().base_url) == ("gpt-4o-mini", "https://llm.example/v1")
    assert made.llm_limits == Limits(Decimal("0.1"), Decimal(5))


def test_limits_that_are_not_set_are_those_of_the_budget(read):
    assert read().llm_limits == Limits()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"REVENUE_OS_LLM_MODEL": ""}, "set together"),
        ({"REVENUE_OS_LLM_URL": ""}, "set together"),
        ({"REVENUE_OS_LLM_URL": "", "REVENUE_OS_LLM_MODEL": ""}, "set together"),
        ({"REVENUE_OS_LLM_URL": "llm.example"}, "no address"),
        ({"REVENUE_OS_LLM_URL": "https://sk-secret@llm.example"}, "no address"),
        ({"REVENUE_OS_LLM_KEY": "sk-secret\n"}, "LLM_KEY has a space"),
    ],
)
def test_a_language_model_that_cannot_be_asked_is_refused_without_its_key(
    read, given: dict[str, str], told: str
):
    with pytest.raises(SettingsError, match=told) as refused:
        read(**MODEL | given)
    assert "sk-secret" not in str(refused.value)


def test_the_key_of_a_language_model_is_not_in_the_settings_text(read):
    given = read(**MODEL)
    assert "sk-secret" not in f"{given!r} {given} {given.labeller()}"


def test_settings_cannot_be_changed(read):
    with pytest.raises(ValueError, match="frozen"):
        read().restate_days = 8


def test_the_password_is_not_in_the_settings_text(read):
    given = read(DATABASE_URL="postgresql://ada:secret@db/revenue")
    assert "secret" not in f"{given!r} {given}"
    assert given.database_url == "postgresql+psycopg://ada:secret@db/revenue"


def test_importing_the_settings_reads_nothing():
    code = "import dagster_project.settings"
    subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env={"REVENUE_OS_ENV": "nonsense"}, check=True
    )
    assert module.settings is settings


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_any_spelling_of_a_postgresql_url_becomes_psycopgs(scheme: str):
    rest = "://ada:p%40ss%2Fword@db.example:6432/revenue?sslmode=require"
    assert address.normalise(scheme + rest) == "postgresql+psycopg" + rest


@pytest.mark.parametrize(
    "url",
    ["mysql://ada:secret@db/revenue", "postgresql://ada:secret@db", "db/revenue", "postgresql://a:b:c:d/x"],
)
def test_another_kind_of_url_is_refused_without_its_password(url: str):
    with pytest.raises(
        address.DatabaseError, match=r"postgresql://user:password@host:5432/database\.$"
    ) as refused:
        address.normalise(url)
    assert "secret" not in str(refused.value)


def test_a_url_becomes_the_variables_libpq_reads():
    url = "postgresql://ada:p%40ss@db.example:6432/revenue?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    assert address.libpq_environment(url) == {
        "PGHOST": "db.example",
        "PGPORT": "6432",
        "PGUSER": "ada",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "revenue",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/etc/ca.pem",
    }


def test_an_embedded_server_url_becomes_the_variables_libpq_reads():
    url = Server(Path("/srv/pg"), Path("/srv/pg"), 5432).url("revenue")
    assert address.libpq_environment(url) == {
        "PGHOST": "/srv/pg",
        "PGPORT": "5432",
        "PGUSER": "postgres",
        "PGDATABASE": "revenue",
        "PGCONNECT_TIMEOUT": "15",
    }


def test_another_database_on_the_same_server_keeps_everything_else():
    url = "postgresql://ada:p%40ss@db.example:6432/revenue?sslmode=require"
    assert address.sibling(url, "dagster", driver="psycopg2") == (
        "postgresql+psycopg2://ada:p%40ss@db.example:6432/dagster?sslmode=require"
    )
