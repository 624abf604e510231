# SPDX-License-Identifier: BSD-2-Clause
stress-src := $(wildcard tests/stress/*.c)

$(BUILD)/tests/stress/stress: $(stress-src) tests/stress/ends.h
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $(stress-src) -pthread $(NN_LDFLAGS)
test-programs += $(BUILD)/tests/stress/stress
