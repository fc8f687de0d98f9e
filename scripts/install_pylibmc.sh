#!/bin/sh
# Installs pylibmc, the second memcached client, for the tests: scripts/install_pylibmc.sh INTERPRETER
# It has wheels for few platforms and is built against libmemcached elsewhere.
set -eu

python=$1
if "$python" -c 'import pylibmc' 2>/dev/null; then
    exit 0
fi
if "$python" -m pip install --quiet --only-binary pylibmc pylibmc >/dev/null 2>&1; then
    exit 0
fi
echo "No wheel of pylibmc for this Python: building it"
if "$(dirname "$0")/install_packages.sh" "libmemcached-dev libsasl2-dev zlib1g-dev" "libmemcached"; then
    # Homebrew's folders are not searched by the compiler; pylibmc takes this variable for them.
    if command -v brew >/dev/null; then
        LIBMEMCACHED=$(brew --prefix libmemcached)
        export LIBMEMCACHED
    fi
    if "$python" -m pip install --quiet pylibmc; then
        exit 0
    fi
fi
echo "pylibmc could not be installed, and the tests need it: install libmemcached with its headers, and try again" >&2
exit 1
