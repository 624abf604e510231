# SPDX-License-Identifier: BSD-2-Clause
tidy-src += $(wildcard tests/stress/*.c)

$(BUILD)/tests/stress/stress: tests/stress/stress.c tests/stress/ends.c tests/stress/ends.h
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $(filter %.c,$^) -pthread $(NN_LDFLAGS)

$(BUILD)/tests/stress/%: tests/stress/%.c tests/stress/pair.h
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(CPPFLAGS) $(NN_CFLAGS) $(CFLAGS) -o $@ $< -pthread $(NN_LDFLAGS)
test-programs += $(addprefix $(BUILD)/tests/stress/,stress set handler crosswise corners interrupt accept namespaces edges forks handover)
