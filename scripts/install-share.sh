#!/bin/sh
# Installs what goes with the binary, made by the binary itself: manual pages, and completions where the shells look.
set -eu

: "${OL:?the path of the ol binary}" "${SHARE:?such as /usr/local/share}"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
trap 'exit 1' HUP INT TERM

"$OL" man "$made/man1" >/dev/null
"$OL" completions bash >"$made/ol"
"$OL" completions zsh >"$made/_ol"
"$OL" completions fish >"$made/ol.fish"

put() { # DIRECTORY FILE…
    directory=$1
    shift
    ${SUDO:-} install -d -m 0755 "$directory"
    ${SUDO:-} install -m 0644 "$@" "$directory"
}
put "$SHARE/man/man1" "$made"/man1/*.1
put "$SHARE/bash-completion/completions" "$made/ol"
put "$SHARE/zsh/site-functions" "$made/_ol"
put "$SHARE/fish/vendor_completions.d" "$made/ol.fish"
echo "installed manual pages and completions under $SHARE"
