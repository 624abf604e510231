# SPDX-License-Identifier: BSD-2-Clause
# The `notnets` command, and what tests link of it: everything but main.
shim-cmd-src := $(wildcard shim/cmd/*.c)
shim-cmd-obj := $(shim-cmd-src:%.c=$(BUILD)/%.o)
tidy-src += $(shim-cmd-src)

$(BUILD)/libnncmd.a: $(filter-out %/notnets.o,$(shim-cmd-obj))
	$(call say,AR,$@)rm -f $@; $(AR) rcs $@ $^

# Of the core it takes only the words and the sums, so it builds without the rest.
$(BUILD)/notnets: $(shim-cmd-obj) $(patsubst %,$(BUILD)/shim/core/%.o,state text report)
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^

targets += $(BUILD)/notnets
installs += $(BUILD)/notnets:755:bin/notnets
installs += shim/cmd/notnets.1:644:share/man/man1/notnets.1
installs += shim/preload/libnotnets_shim.7:644:share/man/man7/libnotnets_shim.7
