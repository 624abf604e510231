# SPDX-License-Identifier: BSD-2-Clause
# libarena.a: the arena with a jemalloc of its own. dump.o is for tools and tests: it uses stdio, the library does not.
arena-src := $(filter-out arena/dump.c,$(wildcard arena/*.c))
arena-obj := $(arena-src:%.c=$(BUILD)/%.o)
arena-lib := $(BUILD)/libarena.a
arena-dump-obj := $(BUILD)/arena/dump.o
tidy-src += $(arena-src) arena/dump.c
targets += $(arena-lib) $(arena-dump-obj)

OBJCOPY ?= objcopy
NM ?= nm
arena-jemalloc := $(or $(shell $(CC) -print-file-name=libjemalloc_pic.a 2>/dev/null),libjemalloc_pic.a)
arena-jemalloc-entries := mallocx dallocx sallocx mallctl
# Pure string functions, that touch nothing but their arguments.
arena-jemalloc-libc := memchr memcmp memcpy memmove memset strchr strcmp strcpy strlen strncmp strncpy __popcountdi2 \
	_GLOBAL_OFFSET_TABLE_
empty :=
space := $(empty) $(empty)

# The compiler answers with the bare name where it finds no such file.
libjemalloc_pic.a:
	@echo '$@ is missing: scripts/setup installs what the build needs' >&2; exit 1

# One object, its names local but for arena_je_*, its constructor removed, its calls to libc sent to jemalloc_host.c.
# A name of libc that jemalloc.syms does not know fails the build.
$(BUILD)/arena/jemalloc-private.o: $(arena-jemalloc) arena/jemalloc.syms arena/rules.mk
	@mkdir -p $(@D)
	$(call say,LD,$@)$(LD) -r $(arena-jemalloc-entries:%=-u %) -o $@.all $(arena-jemalloc)
	$(Q)$(OBJCOPY) --strip-debug --remove-section=.init_array --remove-section=.rela.init_array \
		--redefine-syms=arena/jemalloc.syms $@.all $@.renamed
	$(Q)$(OBJCOPY) --wildcard --keep-global-symbol='arena_je_*' $@.renamed $@
	$(Q)rm -f $@.all $@.renamed
	$(Q)! $(NM) -u $@ | awk '{ print $$2 }' | grep -vxE 'arena_je_.*|$(subst $(space),|,$(strip $(arena-jemalloc-libc)))' || \
		{ echo "$@: names that arena/jemalloc.syms should rename"; rm -f $@; false; }

$(BUILD)/arena/build-jemalloc-tsd.h: $(BUILD)/arena/jemalloc-private.o
	$(Q)$(NM) -S --radix=d $< | awk '$$4 == "arena_je_tsd" { print "#define ARENA_JE_TSD_SIZE " $$2 + 0 "u" }' >$@

$(BUILD)/arena/jemalloc.o: $(BUILD)/arena/build-jemalloc-tsd.h
$(BUILD)/arena/jemalloc.o: CPPFLAGS += -I$(BUILD)/arena

$(arena-lib): $(arena-obj) $(BUILD)/arena/jemalloc-private.o
	$(call say,AR,$@)rm -f $@; $(AR) rcs $@ $^

# Unit tests; each prints cmocka's results and exits 0, or 77 when the machine lacks what it needs.
arena-test-src := $(wildcard tests/unit/test_arena_*.c)
arena-tests := $(arena-test-src:%.c=$(BUILD)/%)
tidy-src += $(arena-test-src)

$(arena-tests): $(BUILD)/tests/unit/test_arena_%: $(BUILD)/tests/unit/test_arena_%.o $(arena-dump-obj) $(arena-lib)
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka
