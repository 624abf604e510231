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
NN_LDFLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(if $(COVERAGE),--coverage)

# What rules.mk files add to.
targets :=      # built by `make all`
tests-fast :=   # phony targets that `make test` runs, each prints TAP-like or cmocka results; see scripts/test
checks :=       # phony targets of `make check`: freestanding, layers, exports
installs :=     # triples SOURCE:MODE:DESTINATION (relative to $(PREFIX))
tidy-src :=     # C files for `make tidy`
help-text :=

.PHONY: all
all: build-all

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

clean:
	$(Q)rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
