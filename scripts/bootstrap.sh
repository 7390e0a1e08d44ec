#!/bin/sh
# Makes .venv complete or leaves it unmarked: the stamp .venv/.ready is written last, and an environment
# without a stamp is rebuilt from nothing. Run by make; PYTHON names the interpreter to build with.
set -eu
cd "$(dirname "$0")/.."

die() {
    printf 'make: %s\n' "$*" >&2
    exit 1
}

# Prints the interpreter behind a command. The base one, because the active virtual environment may be the
# very one that is about to be replaced. Exit code 3: too old. 4: cannot make virtual environments.
base_interpreter() {
    "$1" -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
print(sys._base_executable)' 2>/dev/null
}

find_python() {
    without_venv=
    # Asked in turn, not only looked up: a version manager puts a command on the PATH for versions it does not run.
    for candidate in python3.13 python3.12 python3.11 python3; do
        if python=$(base_interpreter "$candidate"); then
            return
        elif [ $? -eq 4 ]; then
            without_venv=$candidate
        fi
    done
    [ -z "$without_venv" ] ||
        die "$without_venv has no venv module; install it (Debian and Ubuntu: apt-get install python3-venv) and run make again."
    die "no Python 3.11 or newer was found on the PATH; install one, or name it: make PYTHON=path/to/python3."
}

if [ -n "${PYTHON:-}" ]; then
    python=$(base_interpreter "$PYTHON") ||
        die "PYTHON=$PYTHON is not a Python 3.11 or newer with the venv module; name another one."
else
    find_python
fi

# The user's own pip settings stay in force, except those that lead an installation out of .venv or
# replace locked wheels.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_NO_BINARY PYTHONHOME PYTHONPATH
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

if [ -e .venv/.ready ] && .venv/bin/python -c '' 2>/dev/null; then
    echo "Bringing .venv up to requirements.lock ..."
    rm .venv/.ready
else
    echo "Making .venv with $("$python" -V) ($python) ..."
    "$python" -m venv --clear .venv || die "the virtual environment could not be made; the reason stands above."
fi

log=.venv/install.log
quietly() {
    "$@" >>"$log" 2>&1 && return
    tail -n 25 "$log" >&2
    die "the environment is not complete; the whole log is in $log. Run make again when the cause is gone."
}

echo "Installing the $(grep -c '==' requirements.lock) locked packages (one to three minutes the first time) ..."
: >"$log"
# Wheels only: building a source archive would fetch build tools that no lock names.
quietly .venv/bin/python -m pip install --require-hashes --only-binary :all: --no-compile -r requirements.lock
quietly .venv/bin/python -m pip install --no-deps --no-build-isolation --editable .
# Compiled here, on every core, because pip would use one. Some packages ship files that are no valid Python
# on purpose (templates, test data); they are no failure.
.venv/bin/python -m compileall -q -j 0 .venv/lib >>"$log" 2>&1 || true
touch .venv/.ready
echo "Environment ready."
