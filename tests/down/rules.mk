# SPDX-License-Identifier: BSD-2-Clause
down-src := $(wildcard tests/down/*.c)
down-other := $(BUILD)/tests/down/other-version
test-programs += $(BUILD)/tests/down/busy $(down-other)/libnotnets_shim.so
tidy-src += $(down-src)

$(BUILD)/tests/down/busy: $(down-src:%.c=$(BUILD)/%.o)
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^

# A library whose messages have another number.
$(down-other)/libnotnets_shim.so: $(shim-lib)
	$(Q)$(MAKE) --no-print-directory -s BUILD=$(down-other) CFLAGS='-O2 -DMESSAGE_MAJOR=999u' $@
