# SPDX-License-Identifier: BSD-2-Clause
# The core and what it stands on: freestanding, see scripts/check-freestanding.
shim-core-src := $(wildcard shim/core/*.c shim/wait/*.c shim/rendezvous/*.c)
shim-core-obj := $(shim-core-src:%.c=$(BUILD)/%.o)
tidy-src += $(shim-core-src)

$(BUILD)/libnncore.a: $(shim-core-obj)
	$(call say,AR,$@)rm -f $@; $(AR) rcs $@ $^
targets += $(BUILD)/libnncore.a

-include shim/preload/rules.mk
-include shim/cmd/rules.mk
