#!/bin/sh
# Installs the servers that the tests start for themselves, where they are missing.
set -eu

folder=$(dirname "$0")

has() {
    # PostgreSQL's programs are not in PATH; tests/postgresql.py looks in the same places.
    for program in /usr/lib/postgresql/*/bin/"$1" /opt/homebrew/opt/postgresql*/bin/"$1" \
        /usr/local/opt/postgresql*/bin/"$1" /usr/pgsql-*/bin/"$1"; do
        if [ -x "$program" ]; then
            return 0
        fi
    done
    command -v "$1" >/dev/null
}

missing_apt=
missing_brew=
if ! has redis-server; then
    missing_apt=redis-server
    missing_brew=redis
fi
if ! has memcached; then
    missing_apt="${missing_apt:+$missing_apt }memcached"
    missing_brew="${missing_brew:+$missing_brew }memcached"
fi
if ! has initdb; then
    missing_apt="${missing_apt:+$missing_apt }postgresql"
    missing_brew="${missing_brew:+$missing_brew }postgresql@17"
fi

if [ -z "$missing_apt" ]; then
    exit 0
fi
echo "The tests need servers that are not here: $missing_apt"
if ! has initdb && command -v apt-get >/dev/null; then
    # The package would make a database and run it, which nobody has asked for, and which fails without an init system.
    "$folder/install_packages.sh" postgresql-common ""
    sudo=
    if [ "$(id -u)" -ne 0 ]; then
        sudo=sudo
    fi
    $sudo sed -i 's/^#* *create_main_cluster *=.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
fi
# It counts instructions for the guard against regressions, which is left out without it.
if [ "$(uname)" = Linux ] && ! has valgrind; then
    missing_apt="$missing_apt valgrind"
fi
"$folder/install_packages.sh" "$missing_apt" "$missing_brew"

for server in redis-server memcached initdb; do
    if ! has "$server"; then
        echo "$server is still not in PATH; install it, or add its folder to PATH, and run make test again" >&2
        exit 1
    fi
done
