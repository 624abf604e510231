# SPDX-License-Identifier: BSD-2-Clause
test-programs += $(BUILD)/tests/residue/churn
tidy-src += tests/residue/churn.c

$(BUILD)/tests/residue/churn: $(BUILD)/tests/residue/churn.o
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^
