# SPDX-License-Identifier: BSD-2-Clause
$(BUILD)/tests/stress/stress: tests/stress/stress.c tests/stress/ends.c tests/stress/ends.h
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $(filter %.c,$^) -pthread $(NN_LDFLAGS)

$(BUILD)/tests/stress/set: tests/stress/set.c
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $(filter %.c,$^) -pthread $(NN_LDFLAGS)
test-programs += $(BUILD)/tests/stress/stress $(BUILD)/tests/stress/set
