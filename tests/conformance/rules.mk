# SPDX-License-Identifier: BSD-2-Clause
# The player of the differential scripts; tests/conformance/run is the controller.
conformance-src := $(wildcard tests/conformance/*.c)
tidy-src += $(conformance-src)

$(BUILD)/tests/conformance/player: $(conformance-src) tests/conformance/player.h
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $(conformance-src) -pthread $(NN_LDFLAGS)
test-programs += $(BUILD)/tests/conformance/player
