# SPDX-License-Identifier: BSD-2-Clause
# The tiers of tests. tests/unit/test_*.c are programs of their own, one for each file; every other folder has an executable
# `run` that obeys scripts/test. A tier's folder may have a rules.mk that adds to test-programs what `run` needs built.
-include $(wildcard tests/*/rules.mk)

unit-src := $(filter-out tests/unit/test_arena_%,$(wildcard tests/unit/test_*.c))
unit-tests := $(unit-src:%.c=$(BUILD)/%)
unit-libs := $(BUILD)/libnncmd.a $(BUILD)/libnncore.a $(arena-lib)
tidy-src += $(unit-src)

$(unit-tests): $(BUILD)/%: $(BUILD)/%.o $(unit-libs)
	$(call say,LINK,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $< -Wl,--start-group $(unit-libs) -Wl,--end-group -lcmocka

unit-tests += $(arena-tests)

# Time limits in seconds, where 300 are not right.
limit-stress := 180
limit-programs := $(if $(FULL),1200,480)
# By default some minutes; with N as long as it takes.
limit-conformance := $(if $(N),864000,900)
limit-suites := 480
tier = $(addsuffix $(addprefix :,$(limit-$(1))),$(wildcard tests/$(1)/run))

tiers := command conformance down programs residue stress suites
run-tests = BUILD=$(abspath $(BUILD)) scripts/test $(if $(filter 1,$(V)),-v)

# What a tier is for, for `make help`.
.PHONY: unit model $(tiers) sanitize sanitize-variant sanitize-programs unit-programs
unit: $(unit-tests) ## unit tests of core, arena and command
	$(Q)$(run-tests) $(unit-tests)
command: ## the notnets command, end to end
model: ## the state machine of the switch, checked by SPIN
	$(Q)$(run-tests) test-model
conformance: ## socket scripts, every result the same on TCP and on the shim: the written ones, and N (1000) made from SEED (1) on
programs: ## unmodified programs, with the shim at both ends, either and neither; FULL=1: many more (scripts/setup programs)
down: ## back to TCP for every reason, under load
residue: ## nothing is left behind, in a process or in the machine
stress: ## random sizes, kills and switches, checksummed
.PHONY: suites-python suites-others suites-fetch
suites: ## Python's own tests and those of other projects, with and without the shim (`make test` plays the fast of Python's)
	$(Q)status=0; for s in python others; do $(MAKE) --no-print-directory suites-$$s || status=1; done; exit $$status
suites-run = BUILD=$(abspath $(BUILD)) SHIM=$(abspath $(BUILD))/libnotnets_shim.so tests/suites/
suites-python: build-all ## Python's own (a quarter of an hour)
	$(Q)$(suites-run)run full
suites-others: build-all ## those of other projects (half an hour, and what fetching and building them takes); SUITES="NAME NAME/PART..."
	$(Q)$(suites-run)others $(SUITES)
suites-fetch: ## fetch and build what suites-others runs (scripts/setup suites)
	$(Q)$(suites-run)others fetch $(SUITES)
$(filter-out suites,$(tiers)): build-all
	$(Q)$(MAKE) --no-print-directory test-programs
	$(Q)$(run-tests) $(or $(call tier,$@),$(error there is no tests/$@/run))

sanitize: ## unit tests built with address, undefined and thread sanitizers
	$(Q)$(MAKE) --no-print-directory SANITIZE=address,undefined $(jobs) sanitize-variant
	$(Q)$(MAKE) --no-print-directory SANITIZE=thread $(jobs) sanitize-variant
# Apart, because the time limit of `make sanitize` in `make test` is for tests that hang.
sanitize-programs:
	$(Q)$(MAKE) --no-print-directory SANITIZE=address,undefined $(jobs) unit-programs
	$(Q)$(MAKE) --no-print-directory SANITIZE=thread $(jobs) unit-programs
unit-programs: $(unit-tests) ; @:
sanitize-variant: $(unit-tests)
	$(Q)BUILD=$(abspath $(BUILD)) scripts/test -v $(unit-tests)

.PHONY: test-programs
test-programs: $(test-programs) $(unit-tests)

tests-fast += $(unit-tests) $(foreach t,$(tiers),$(call tier,$(t))) sanitize:480
