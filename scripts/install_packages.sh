#!/bin/sh
# Installs system packages: scripts/install_packages.sh "APT PACKAGES" "BREW PACKAGES"
set -eu

apt=$1
brew=$2

if [ -n "$apt" ] && command -v apt-get >/dev/null; then
    sudo=
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Neither root nor sudo here. As root, run: apt-get install $apt" >&2
            exit 1
        fi
        sudo=sudo
    fi
    echo "Installing with apt-get: $apt"
    # The lists of a fresh image are empty or old; an update that fails in part may still do.
    $sudo apt-get update -qq || echo "apt-get update failed; trying with the lists at hand" >&2
    # shellcheck disable=SC2086 # several packages in one word
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $apt >/dev/null
elif [ -n "$brew" ] && command -v brew >/dev/null; then
    echo "Installing with brew: $brew"
    # shellcheck disable=SC2086
    brew install --quiet $brew
else
    echo "Neither apt-get nor brew here. Install by hand: ${apt:-$brew}" >&2
    exit 1
fi
