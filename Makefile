# SPDX-License-Identifier: BSD-2-Clause
# Non-recursive make: every folder has a rules.mk that adds to the lists below. Everything built goes to $(BUILD).
#
#   V=1                      show commands
#   CC=clang                 another compiler
#   SANITIZE=address,undefined | thread, COVERAGE=1
#                            variants, each in a build folder of its own
#   PREFIX=/usr/local DESTDIR=
VERSION := 0.1.0
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(2)';)

PREFIX ?= /usr/local
SANITIZE ?=
COVERAGE ?=
comma := ,
variant := $(if $(SANITIZE),-$(subst $(comma),-,$(SANITIZE)))$(if $(COVERAGE),-coverage)
BUILD := build$(if $(variant),/variant$(variant))

ifeq ($(origin CC),default)
CC := gcc
endif
CPPFLAGS += -D_GNU_SOURCE -DNOTNETS_VERSION='"$(VERSION)"' -I.
CFLAGS ?= -O2 -g
NN_CFLAGS := -std=gnu17 -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes -Wshadow -Wvla -fno-strict-aliasing \
	-fPIC -fvisibility=hidden -fexceptions $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer) $(if $(COVERAGE),--coverage)
# The thread sanitizer knows no fences, and gcc says so of each.
NN_CFLAGS += $(if $(filter thread,$(SANITIZE)),$(if $(findstring clang,$(CC)),,-Wno-tsan))
NN_LDFLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(if $(COVERAGE),--coverage)

# For targets that build much and are given alone.
jobs = $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc))

# What rules.mk files add to.
targets :=       # built by `make all`
test-programs := # built for tests only
tests-fast :=    # what `make test` runs: executables with a slash in their name or phony targets, see scripts/test
checks :=        # phony targets of `make check`
installs :=      # triples SOURCE:MODE:DESTINATION (relative to $(PREFIX))
tidy-src :=      # C files for `make tidy`

.PHONY: all
all: build-all ## build everything (the default)

include arena/rules.mk
include shim/rules.mk
-include tests/rules.mk
-include bench/rules.mk
-include scripts/rules.mk

.PHONY: build-all clean
build-all: $(targets)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

clean: ## remove everything built
	$(Q)rm -rf build

.PHONY: help test test-run check check-freestanding check-layers check-man tidy install uninstall

help: ## list the targets
	@echo 'make TARGET [VARIABLE=VALUE]...'; echo
	@grep -hE '^[a-z-]+:.*## ' $(wildcard Makefile */rules.mk */*/rules.mk) | sort -u | \
		sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16
	@echo; sed -nE 's/^#   /  /p' Makefile

# ---- tests -------------------------------------------------------------------------------------------------------
test: ## install what is missing, build, run every fast test
	$(Q)scripts/setup test
	$(Q)$(MAKE) --no-print-directory $(jobs) build-all test-programs sanitize-programs
	$(Q)$(MAKE) --no-print-directory test-run

test-run: build-all
	$(Q)$(MAKE) --no-print-directory test-programs
	$(Q)BUILD=$(abspath $(BUILD)) scripts/test $(if $(filter 1,$(V)),-v) $(checks) $(tests-fast)

# ---- what must stay true of the code ------------------------------------------------------------------------------
checks += check-freestanding check-layers check-man
check: $(checks) ## the core is freestanding, layers point one way, the exports and the manual are complete

check-freestanding: $(shim-core-obj) $(arena-obj) $(arena-lib)
	$(Q)scripts/check-freestanding $(shim-core-obj) $(arena-obj) -- $(arena-lib)

check-layers:
	$(Q)scripts/check-layers

check-man: $(BUILD)/notnets
	$(Q)scripts/check-man $(BUILD)/notnets

tidy: ## clang-tidy and cppcheck
	$(Q)scripts/tidy $(tidy-src)

# ---- installation -------------------------------------------------------------------------------------------------
destination = $(DESTDIR)$(PREFIX)/$(word 3,$(subst :, ,$(1)))

install: build-all ## install library, command and manual under $(DESTDIR)$(PREFIX)
	$(Q)set -e; $(foreach i,$(installs),install -D -m $(word 2,$(subst :, ,$(i))) $(word 1,$(subst :, ,$(i))) '$(call destination,$(i))';)

uninstall: ## remove what install put there
	$(Q)rm -f $(foreach i,$(installs),'$(call destination,$(i))')

# What is fetched for tests is none of it.
-include $(shell find $(BUILD) -path $(BUILD)/suites -prune -o -type f -name '*.d' -print 2>/dev/null)
