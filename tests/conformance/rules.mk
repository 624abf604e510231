# SPDX-License-Identifier: BSD-2-Clause
# The player of the differential scripts, and its conductor; tests/conformance/run is their client.
conformance-conductor-src := tests/conformance/conductor.c tests/conformance/board.c
conformance-player-src := $(filter-out tests/conformance/conductor.c,$(wildcard tests/conformance/*.c))
conformance-headers := $(wildcard tests/conformance/*.h)
tidy-src += $(wildcard tests/conformance/*.c)

conformance-programs := $(BUILD)/tests/conformance/player $(BUILD)/tests/conformance/conductor
$(BUILD)/tests/conformance/player: $(conformance-player-src)
$(BUILD)/tests/conformance/conductor: $(conformance-conductor-src)
$(conformance-programs): $(conformance-headers)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $(filter %.c,$^) -pthread $(NN_LDFLAGS)
test-programs += $(conformance-programs)
