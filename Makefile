# The two commands are `make run` and `make test`; the rest serves them. Each installs what it needs and says so.

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
DIR ?= default-ol
PORT ?= 5000
PREFIX ?= /usr/local
OL := $(CARGO_TARGET_DIR)/debug/ol
# Sandboxes need root. What builds and what runs is one profile, see Cargo.toml.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: run stop test test-long test-v2 check bench install need

run: need
	cargo build --package ol
	@SUDO="$(SUDO)" OL="$(OL)" DIR="$(DIR)" PORT="$(PORT)" scripts/run.sh

stop:
	@[ -x $(OL) ] || { echo "error: there is no $(OL) to stop a worker with: run \`make run\` first, or set CARGO_TARGET_DIR as it was then" >&2; exit 1; }
	@$(SUDO) $(OL) worker status -p $(DIR) >/dev/null 2>&1 || { echo "no worker runs in $(DIR)"; exit 0; }; \
	$(SUDO) $(OL) worker down -p $(DIR)

test:
	@SUDO="$(SUDO)" scripts/need.sh test
	cargo build --package ol
	cargo xtask test

# Long suites: every test over every kind of start, soak, and packages' own tests.
test-long: test test-v2
	for starts in fresh blank resume; do OL_TEST_STARTS=$$starts cargo xtask test --package ol-conformance || exit 1; done
	cargo xtask test --package ol-conformance --run-ignored only
	cargo xtask test-v2 --limit 1800 zygote paused leaves_outlive more_functions

test-v2: need
	cargo xtask test-v2

check: need
	cargo xtask check

bench: need
	cargo xtask bench warm

install: need
	cargo build --package ol
	$(SUDO) install -D -m 0755 $(OL) $(DESTDIR)$(PREFIX)/bin/ol
	@SUDO="$(SUDO)" OL="$(OL)" SHARE="$(DESTDIR)$(PREFIX)/share" scripts/install-share.sh

need:
	@SUDO="$(SUDO)" scripts/need.sh
