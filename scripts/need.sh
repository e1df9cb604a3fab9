#!/bin/sh
# Installs what building and running (and, as `need.sh test`, testing) need and this machine lacks, and says what it did.
# Debian and Ubuntu.
set -eu

missing=
need() { # COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc build-essential
need curl curl
need git git
need nft nftables
[ -x /usr/bin/python3 ] || missing="$missing python3"
# Tests run on base images of Debian.
if [ "${1:-}" = test ]; then
    need mmdebstrap mmdebstrap
    need ip iproute2
    [ -f /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
fi

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: this machine lacks$missing and has no apt-get: install them, then try again" >&2
        exit 1
    fi
    echo "installing$missing (apt-get)"
    ${SUDO:-} apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    ${SUDO:-} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    echo "installed$missing"
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "error: cargo is missing: install Rust 1.90 or newer from https://rustup.rs, then try again" >&2
    exit 1
fi
