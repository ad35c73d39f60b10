# Objects and programs go to $(B); `make help` lists the targets.
B ?= build
PREFIX ?= /usr/local
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
SAN ?=
JOBS ?= 2
# V=1 shows the commands.
Q = $(if $(V),,@)

.DEFAULT_GOAL := all
-include build/config.mk

WARN = -Wall -Wextra -Wshadow -Wmissing-prototypes -Wimplicit-fallthrough -Wno-unused-parameter -Wno-format-truncation
ifdef CI
WARN += -Werror
endif
HARDEN = $(if $(SAN),,-D_FORTIFY_SOURCE=2) -fPIE -fstack-protector-strong
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -Ibuild $(WARN) $(CFLAGS) $(HARDEN) $(SAN) $(PKG_CFLAGS) $(DEFS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN) $(LDFLAGS)
LIBS = $(PKG_LIBS) -lpthread

# The mains; everything else is one static library, which the unit tests link too.
MAINS = supervisor/main.c ctl/main.c hv/jail-main.c oci/image-main.c
SRC = $(filter-out $(MAINS),$(wildcard lib/*.c supervisor/*.c hv/*.c netcfg/*.c oci/*.c ctl/*.c))
OBJ = $(SRC:%.c=$(B)/obj/%.o)
PROGS = $(if $(wildcard supervisor/main.c),$(B)/droverd) $(if $(wildcard ctl/main.c),$(B)/drover) \
	$(if $(wildcard hv/jail-main.c),$(B)/drover-jail) $(if $(wildcard oci/image-main.c),$(B)/drover-image)
UNIT = $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/test_*.c))
RIG = $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(wildcard tests/unit/test_*.c),$(wildcard tests/unit/*.c)))
FAKES = $(patsubst tests/fakes/%.c,$(B)/fakes/%,$(wildcard tests/fakes/*.c))
BENCH = $(patsubst tests/bench/%.c,$(B)/bench/%,$(wildcard tests/bench/*.c))

all: $(PROGS)

$(B)/droverd: $(B)/obj/supervisor/main.o
$(B)/drover: $(B)/obj/ctl/main.o
$(B)/drover-jail: $(B)/obj/hv/jail-main.o
$(B)/drover-image: $(B)/obj/oci/image-main.o
$(PROGS): $(B)/libdrover.a
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(B)/libdrover.a $(LIBS)

$(B)/libdrover.a: $(OBJ)
	@rm -f $@
	@ar rcs $@ $^

$(B)/obj/%.o: %.c build/config.mk
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/unit/%: $(B)/obj/tests/unit/%.o $(RIG) $(B)/libdrover.a
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(RIG) $(B)/libdrover.a $(LIBS) $(CMOCKA_LIBS)

# The fakes and the benchmark's floor share no code with drover.
$(FAKES): $(B)/fakes/%: $(B)/obj/tests/fakes/%.o
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS)
$(B)/fakes/fake-ch: $(patsubst %.c,$(B)/obj/%.o,$(wildcard tests/fakes/ch/*.c))
$(B)/obj/tests/fakes/ch/schema.o: tests/data/cloud-hypervisor/schema.json
$(BENCH): $(B)/bench/%: $(B)/obj/tests/bench/%.o
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(LIBS)

build/config.mk: configure.ac contrib/build/config.mk.in contrib/build/config.h.in
	@mkdir -p build
	@command -v autoconf >/dev/null || { echo "autoconf is missing; run contrib/deps --install" >&2; exit 1; }
	autoconf -o build/configure configure.ac && rm -rf autom4te.cache
	cd build && ./configure -q $(CONFIGURE_FLAGS)
	@touch $@

deps:
	@contrib/deps --install

test-programs: $(UNIT) $(FAKES) $(PROGS)

check: deps
	$(MAKE) -j$(JOBS) all test-programs
	$(MAKE) lint
	$(MAKE) check-unit check-e2e

check-unit: test-programs
	B=$(B) tests/run --unit

# The daemon with its fault points (lib/fault.h), for the crash matrix.
faults:
	@$(MAKE) --no-print-directory B=$(B)/faults DEFS=-DDROVER_FAULTS $(B)/faults/droverd

check-e2e: all test-programs faults
	B=$(B) tests/run --e2e

# Kills and stops at random for MINUTES, then looks at what has become of it; SEED= replays.
chaos: deps
	$(MAKE) -j$(JOBS) all test-programs
	B=$(B) CHAOS_SECONDS=$$(( $(or $(MINUTES),1) * 60 )) CHAOS_SEED=$(SEED) tests/e2e/chaos.t

asan: deps
	$(MAKE) -j$(JOBS) B=build/asan CC=$(or $(ASAN_CC),gcc) CFLAGS='-O1 -g -fno-omit-frame-pointer' \
		SAN='-fsanitize=address,undefined -fno-sanitize-recover=undefined' check-unit

# libFuzzer on what parses bytes from outside; SECONDS each, RUNS executions at least.
FUZZ = $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*.c))
fuzz: deps
	$(MAKE) -j$(JOBS) B=build/fuzz CC=clang CFLAGS='-O1 -g -Wno-unknown-warning-option -Wno-error' \
		SAN='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' \
		fuzz-programs
	SECONDS_EACH=$(or $(SECONDS),60) RUNS=$(or $(RUNS),100000) tests/fuzz/run

fuzz-programs: $(FUZZ)
# What is fuzzed needs no more of the tree than this.
FUZZ_OBJ = $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(MAINS),$(wildcard lib/*.c oci/*.c) hv/ch-wire.c))
$(FUZZ): $(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(FUZZ_OBJ)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

lint:
	@tests/lint

demo: deps
	$(MAKE) -j$(JOBS) all
	contrib/demo/demo

bench: deps
	$(MAKE) -j$(JOBS) all test-programs $(BENCH)
	B=$(B) STRICT=$(STRICT) PEER=$(PEER) tests/bench/run
	B=$(B) STRICT=$(STRICT) tests/bench/image.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/drover \
		$(DESTDIR)$(PREFIX)/share/doc/drover/examples
	install -m 755 $(B)/droverd $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(B)/drover $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(B)/drover-jail $(B)/drover-image $(DESTDIR)$(PREFIX)/libexec/drover/
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 644 contrib/man/drover.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 contrib/completion/drover.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/drover
	install -d $(DESTDIR)$(UNITDIR)
	install -m 644 contrib/systemd/*.service contrib/systemd/*.socket contrib/systemd/*.slice \
		$(DESTDIR)$(UNITDIR)/
	sed -e 's|@SBINDIR@|$(PREFIX)/sbin|' -e 's|@DOCDIR@|$(PREFIX)/share/doc/drover|' \
		contrib/systemd/droverd.service.in >$(DESTDIR)$(UNITDIR)/droverd.service
	chmod 644 $(DESTDIR)$(UNITDIR)/droverd.service
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/drover/
	install -m 644 etc/drover.ini etc/examples/*.ini $(DESTDIR)$(PREFIX)/share/doc/drover/examples/

clean:
	rm -rf $(B)

help:
	@echo 'all check check-unit check-e2e chaos asan fuzz lint demo bench install clean deps'

.PHONY: all deps faults test-programs check check-unit check-e2e chaos asan fuzz fuzz-programs lint demo bench install clean help
.SECONDARY:
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
