#!/bin/sh
# Installs the servers that the tests start for themselves, where they are missing.
set -eu

missing_apt=
missing_brew=
if ! command -v redis-server >/dev/null; then
    missing_apt=redis-server
    missing_brew=redis
fi
if ! command -v memcached >/dev/null; then
    missing_apt="${missing_apt:+$missing_apt }memcached"
    missing_brew="${missing_brew:+$missing_brew }memcached"
fi

if [ -z "$missing_apt" ]; then
    exit 0
fi
echo "The tests need servers that are not here: $missing_apt"
# It counts instructions for the guard against regressions, which is left out without it.
if [ "$(uname)" = Linux ] && ! command -v valgrind >/dev/null; then
    missing_apt="$missing_apt valgrind"
fi
"$(dirname "$0")/install_packages.sh" "$missing_apt" "$missing_brew"

for server in redis-server memcached; do
    if ! command -v "$server" >/dev/null; then
        echo "$server is still not in PATH; install it, or add its folder to PATH, and run make test again" >&2
        exit 1
    fi
done
