# SPDX-License-Identifier: BSD-2-Clause
# The LD_PRELOAD library.
shim-preload-src := $(wildcard shim/preload/*.c)
shim-preload-obj := $(shim-preload-src:%.c=$(BUILD)/%.o)
tidy-src += $(shim-preload-src)
shim-lib := $(BUILD)/libnotnets_shim.so

# Wrappers define the functions that fortified headers would define inline.
$(shim-preload-obj): CPPFLAGS += -U_FORTIFY_SOURCE
# Under the thread sanitizer unwinding through a wrapper ends in its runtime: there handlers of the other kind do.
$(shim-preload-obj): NN_CFLAGS += -fasynchronous-unwind-tables $(if $(findstring thread,$(SANITIZE)),-fno-exceptions)

$(BUILD)/shim/preload/exports.map: shim/preload/exports.in shim/preload/calls.x
	@mkdir -p $(@D)
	$(call say,GEN,$@)$(CC) -E -P -undef -x c -I. -o $@ $<

# -Bsymbolic: calls among the wrappers stay inside, whatever the program defines. nodelete: threads may be in our code.
shim-preload-ldflags := -shared -Wl,-soname,libnotnets_shim.so -Wl,-z,now -Wl,-z,nodelete -Wl,-z,defs -Wl,-Bsymbolic \
	-Wl,--version-script=$(BUILD)/shim/preload/exports.map

$(shim-lib): $(shim-preload-obj) $(BUILD)/libnncore.a $(BUILD)/libarena.a $(BUILD)/shim/preload/exports.map
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) $(shim-preload-ldflags) -o $@ $(shim-preload-obj) \
		$(BUILD)/libnncore.a $(BUILD)/libarena.a

targets += $(shim-lib)
installs += $(shim-lib):755:lib/libnotnets_shim.so

# What the library exports is what calls.x lists, no more and no less.
.PHONY: check-exports
check-exports: $(shim-lib)
	$(call say,CHECK,exports of $<)diff \
		<(nm -D --defined-only $< | awk '{ sub(/@.*/, "", $$3); print $$3 }' | sort) \
		<(sed -n '/^global:/,/^local:/p' $(BUILD)/shim/preload/exports.map | tr ';' '\n' | tr -d ' ' | \
			grep -E '^[A-Za-z_0-9]+$$' | sort) >&2
checks += check-exports

# The wrappers' test brings a core of its own.
$(BUILD)/tests/unit/test_preload: unit-libs := $(shim-preload-obj) $(BUILD)/shim/core/text.o
$(BUILD)/tests/unit/test_preload: $(shim-preload-obj) $(BUILD)/shim/core/text.o
