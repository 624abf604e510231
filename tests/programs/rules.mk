# SPDX-License-Identifier: BSD-2-Clause
test-programs += $(BUILD)/bench/grpc-server $(BUILD)/bench/grpc-client
