# SPDX-License-Identifier: BSD-2-Clause
# The models alone, without the tier around them (tests/rules.mk puts tests/model/check into `make test`).
.PHONY: test-model
test-model: ## verify the models of the switch and of sleep and wake
	$(Q)tests/model/check $(BUILD)/model
