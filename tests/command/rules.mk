# SPDX-License-Identifier: BSD-2-Clause
$(BUILD)/tests/command/show-state: $(BUILD)/tests/command/show-state.o
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^
test-programs += $(BUILD)/tests/command/show-state
tidy-src += tests/command/show-state.c
