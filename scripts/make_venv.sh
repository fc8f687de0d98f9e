#!/bin/sh
# Makes a virtual environment: scripts/make_venv.sh DIRECTORY [INTERPRETER]
# Takes the newest Python from 3.11 on that works, and on Debian and Ubuntu installs the parts that they package
# apart (python3-venv, python3-dev) when they are missing.
set -eu

directory=$1
chosen=${2:-}
here=$(dirname "$0")

is_new_enough='import sys; raise SystemExit(sys.version_info < (3, 11))'
# ensurepip puts pip into the environment; Python.h is what the extensions are compiled against.
is_complete='import ensurepip, os, sysconfig, venv
raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'

works() { "$1" -c "$2" >/dev/null 2>&1; }

if [ -n "$chosen" ]; then
    if ! works "$chosen" "$is_new_enough"; then
        echo "PYTHON=$chosen is no working Python 3.11 or newer" >&2
        exit 1
    fi
    python=$chosen
else
    python=
    fallback=
    for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do
        works "$candidate" "$is_new_enough" || continue
        fallback=${fallback:-$candidate}
        if works "$candidate" "$is_complete"; then
            python=$candidate
            break
        fi
    done
    python=${python:-$fallback}
    if [ -z "$python" ]; then
        echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
fi

if ! works "$python" "$is_complete"; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$python ($version) lacks venv, pip or its C headers."
    case $("$python" -c 'import sys; print(sys.base_prefix)') in
        # Only the system's own Python is completed by the system's packages.
        /usr) "$here/install_packages.sh" "python$version-venv python$version-dev" "" ;;
    esac
    if ! works "$python" "$is_complete"; then
        echo "Install the packages that complete it (Debian, Ubuntu: python$version-venv and python$version-dev)," >&2
        echo "or name another Python: make PYTHON=/path/to/python" >&2
        exit 1
    fi
fi

echo "Making $directory with $("$python" --version) ($python)"
# --clear: what an attempt that was cut off left there is not to be built upon.
"$python" -m venv --clear "$directory"
