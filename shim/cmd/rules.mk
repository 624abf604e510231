# SPDX-License-Identifier: BSD-2-Clause
# The `notnets` command, and what tests link of it: everything but main.
shim-cmd-src := $(wildcard shim/cmd/*.c)
shim-cmd-obj := $(shim-cmd-src:%.c=$(BUILD)/%.o)
tidy-src += $(shim-cmd-src)

$(BUILD)/libnncmd.a: $(filter-out %/notnets.o,$(shim-cmd-obj))
	$(call say,AR,$@)rm -f $@; $(AR) rcs $@ $^

# Of the core it takes only the words and the sums, and how variables are read, so it builds without the rest.
shim-cmd-others := $(patsubst %,$(BUILD)/%.o,shim/core/state shim/core/text shim/core/report shim/preload/config arena/backend_parse)
$(BUILD)/notnets: $(shim-cmd-obj) $(shim-cmd-others)
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^

targets += $(BUILD)/notnets
installs += $(BUILD)/notnets:755:bin/notnets
installs += shim/cmd/notnets.1:644:share/man/man1/notnets.1
installs += shim/preload/libnotnets_shim.7:644:share/man/man7/libnotnets_shim.7
