# lxm: `make demo` shows it, `make test` tests it. See README.md.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)

# Privileged tests run as root, with the toolchain and the target directory of the caller. (A comma
# in a function's argument would end it, so the list has a name of its own.)
KEPT    := PATH,HOME,CARGO_HOME,RUSTUP_HOME,CI,LXM_TESTS_SLOWNESS
AS_ROOT := $(if $(SUDO),sudo --preserve-env=$(KEPT)) env
# Layers of tests: what is within quotes runs one after the other, and beside the rest.
LANES   := "unit unit-root cli host" "systemd vm"
# Unit tests need no root, and have none where root runs them.
AS_USER := $(if $(SUDO),,--config "target.'cfg(unix)'.runner='$(CURDIR)/tests/as-nobody'")
# What a layer's test programs are told: `make test-host TRIALS=boot::`.
TRIALS  ?=

all: build

build:
	$(CARGO) build --release --locked

deps:
	$(SUDO) tests/install-packages

# What `make install` copies: the program, its templates and keys, its units, what keeps other managers
# of networks and services off, the AppArmor profiles of guests, its manual, and the completions of shells.
install: build
	install -D -m 0755 target/release/lxm $(DESTDIR)$(PREFIX)/bin/lxm
	install -d $(DESTDIR)$(PREFIX)/share/lxm/templates/keyrings
	install -m 0644 templates/*.toml $(DESTDIR)$(PREFIX)/share/lxm/templates/
	install -m 0644 templates/keyrings/* $(DESTDIR)$(PREFIX)/share/lxm/templates/keyrings/
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/systemd/system-preset
	for unit in units/system/*.service units/system/*.target units/system/*.timer; do \
	    sed 's|/usr/bin/lxm|$(PREFIX)/bin/lxm|' $$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}; \
	done
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system/lxm@.service.d units/system/lxm@.service.d/*
	version=$$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p'); \
	if [ "$${version:-0}" -ge 255 ]; then \
	    install -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system/lxm@.service.d packaging/systemd/*; \
	fi
	install -m 0644 units/system-preset/* $(DESTDIR)$(PREFIX)/lib/systemd/system-preset/
	for kind in tmpfiles.d sysusers.d; do \
	    install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/$$kind units/$$kind/*; \
	done
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/network units/network/*
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/NetworkManager/conf.d packaging/NetworkManager/*
	install -D -m 0644 -t $(DESTDIR)/etc/needrestart/conf.d packaging/needrestart/*
	install -D -m 0644 -t $(DESTDIR)/etc/apparmor.d packaging/apparmor.d/*
	target/release/lxm generate man $(DESTDIR)$(PREFIX)/share/man/man1
	target/release/lxm generate completions target/completions
	install -D -m 0644 target/completions/lxm $(DESTDIR)$(PREFIX)/share/bash-completion/completions/lxm
	install -D -m 0644 target/completions/_lxm $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_lxm
	install -D -m 0644 target/completions/lxm.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/lxm.fish

# A Debian package, in target/.
deb: build
	packaging/build-deb target/release/lxm target

demo: deps build
	$(SUDO) docs/demo target/release/lxm

demo-clean:
	$(SUDO) docs/demo target/release/lxm clean

# Every layer that this machine can run; a layer that fails does not keep the next from running.
test: deps
	tests/run-layers $(LANES)

test-unit:
	$(CARGO) test $(AS_USER) --locked --no-fail-fast --lib --bins --test golden -- --skip root_tests:: $(TRIALS)

# What only root can try of it: owners, capabilities, devices, mounts.
test-unit-root:
	$(CARGO) test --locked --no-run --lib --test golden
	$(AS_ROOT) $(CARGO) test --locked --no-fail-fast --lib --test golden -- $(or $(TRIALS),root_tests::)

test-cli:
	$(CARGO) test --locked --no-fail-fast --test cli --test project --test layers -- $(TRIALS)

test-host test-systemd test-vm: test-%:
	$(CARGO) test --locked --no-run --test $*
	$(AS_ROOT) LXM_TESTS_MUST_RUN=1 $(CARGO) test --locked --test $* -- $(TRIALS)

# On a host of the newest systemd, which may break any day.
test-sid:
	$(CARGO) test --locked --no-run --test systemd
	$(AS_ROOT) LXM_TESTS_SID=1 timeout 900 $(CARGO) test --locked --test systemd -- $(TRIALS)

bench: deps
	$(CARGO) bench --locked --bench compare

.PHONY: all build deb deps install demo demo-clean test test-unit test-unit-root test-cli test-host test-systemd test-vm test-sid bench
