#!/bin/sh
# Starts a worker with the example functions and shows a call that works. A worker that runs already is replaced, so
# that the one which answers is the one just built. Needs no network: the packages of examples are got in the background.
set -eu

: "${OL:?the path of the ol binary}" "${DIR:?the worker directory}"
ol() { ${SUDO:-} "$OL" "$@"; }

if ol worker status -p "$DIR" >/dev/null 2>&1; then
    ol worker down -p "$DIR"
fi
ol worker up -d -p "$DIR" -o "worker_port=${PORT:-5000}"
for example in examples/*/; do
    # Packages may take a while, or may not be to be had at all: nobody waits for them here.
    ol admin install --no-wait -p "$DIR" "$example"
done
url=$(${SUDO:-} cat "$DIR/worker/worker.url")
call="curl $url/run/hello -d '{\"name\": \"you\"}'"
printf '\n$ %s\n' "$call"
curl -sS --fail-with-body "$url/run/hello" -d '{"name": "you"}'
printf '\n\nThe worker goes on. Try it yourself:\n\n  %s\n\nThe command is %s\nStop it with: make stop DIR=%s\n' "$call" "$OL" "$DIR"
