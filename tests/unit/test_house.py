"""The house itself: lock, pins, what may not be in the tree, and the instance's arithmetic. No database."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Folders that exist only on the machine a file was written on. After a letter, a dot or a tilde the slash
# belongs to an address or a relative path.
MACHINE_PATH = re.compile(r"(?<![\w.~)}>-])/(?:work|root|tmp|opt|home/\w+|Users/\w+)/\w")

DIRECT = [
    Requirement(text)
    for text in (
        *PYPROJECT["project"]["dependencies"],
        *PYPROJECT["dependency-groups"]["dev"],
        *PYPROJECT["build-system"]["requires"],
    )
]


def locked_versions() -> dict[str, list[Version]]:
    """Every version the lock names, by canonical name; markers may give a package two."""
    versions: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", LOCK, flags=re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(Version(version))
    return versions


def files_of_the_tree() -> list[Path]:
    """Tracked files and new ones that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip(f"the files of the tree are known only in a git checkout: {listed.stderr.strip()}")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_lock_names_no_host_no_index_and_no_path():
    named = re.findall(
        r"^.*(?:https?:|file:|@ |--(?!hash=sha256:)\S|(?<!\w)/\w).*$", LOCK, flags=re.MULTILINE
    )
    assert named == []


def test_every_locked_version_has_hashes():
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK)
    assert [entry.split()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_a_direct_dependency_is_locked_within_its_range(requirement: Requirement):
    versions = locked_versions().get(canonicalize_name(requirement.name))
    assert versions, f"{requirement.name} is in pyproject.toml and not in requirements.lock; run make lock"
    outside = [str(version) for version in versions if version not in requirement.specifier]
    assert not outside, f"locked {requirement.name} {outside} is outside {requirement.specifier}"


def test_dagster_ge_is_not_locked():
    assert "dagster-ge" not in locked_versions()


def test_dbt_core_stays_below_the_version_that_downloads_while_it_builds():
    assert all(version < Version("1.12") for version in locked_versions()["dbt-core"])


def test_the_dbt_folder_is_no_python_package():
    # It would shadow dbt itself for everything that runs from the repository.
    assert not (ROOT / "dbt" / "__init__.py").exists()


def test_no_file_of_the_tree_names_a_path_of_a_build_machine():
    found = []
    for path in files_of_the_tree():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
            if MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


@pytest.mark.parametrize("folder", ["work", "root", "tmp", "opt", "home/ada", "Users/ada"])
def test_a_path_of_a_build_machine_is_recognised(folder: str):
    assert MACHINE_PATH.search(f"cd /{folder}/x")
    assert MACHINE_PATH.search(f"path='/{folder}/x'")


@pytest.mark.parametrize("line", ["https://host/tmp/x", "./tmp/x", "src/opt/x", "/srv/dagster", "~/tmp/x"])
def test_other_paths_are_left_alone(line: str):
    assert not MACHINE_PATH.search(line)


def test_the_runs_dagster_allows_fit_the_connections_postgres_allows():
    instance = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text(encoding="utf-8"))
    runs = instance["concurrency"]["runs"]["max_concurrent_runs"]
    max_connections, superuser, services, per_run = 100, 3, 25, 12
    assert runs * per_run <= max_connections - superuser - services
