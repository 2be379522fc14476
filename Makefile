# lxm: `make demo` shows it, `make test` tests it. See README.md.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)

# Privileged tests run as root, with the toolchain and the target directory of the caller.
AS_ROOT := $(if $(SUDO),sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CI) env
LAYERS  := unit cli host systemd vm

all: build

build:
	$(CARGO) build --release --locked

deps:
	$(SUDO) tests/install-packages

# What `make install` copies: the program, its templates and keys, its units, and its manual.
install: build
	install -D -m 0755 target/release/lxm $(DESTDIR)$(PREFIX)/bin/lxm
	install -d $(DESTDIR)$(PREFIX)/share/lxm/templates/keyrings
	install -m 0644 templates/*.toml $(DESTDIR)$(PREFIX)/share/lxm/templates/
	install -m 0644 templates/keyrings/* $(DESTDIR)$(PREFIX)/share/lxm/templates/keyrings/
	install -d $(DESTDIR)$(PREFIX)/lib/systemd
	cp -r --preserve=mode units/. $(DESTDIR)$(PREFIX)/lib/systemd/

demo: deps build
	$(SUDO) docs/demo target/release/lxm

demo-clean:
	$(SUDO) docs/demo target/release/lxm clean

# Every layer that this machine can run; a layer that fails does not keep the next from running.
test: deps
	tests/run-layers $(LAYERS)

test-unit:
	$(CARGO) test --locked --lib --bins

test-cli:
	$(CARGO) test --locked --test cli --test project

test-host test-systemd test-vm: test-%:
	$(CARGO) test --locked --no-run --test $*
	$(AS_ROOT) LXM_TESTS_MUST_RUN=1 $(CARGO) test --locked --test $*

bench: deps
	$(CARGO) bench --locked --bench compare

.PHONY: all build deps install demo demo-clean test test-unit test-cli test-host test-systemd test-vm bench
