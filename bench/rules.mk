# SPDX-License-Identifier: BSD-2-Clause
# Load programs and the demo. They need more than the product does (libgrpc++, clang for eBPF), so `make all` leaves
# them alone.
BENCH := $(BUILD)/bench
bench-grpc := $(BENCH)/grpc-server $(BENCH)/grpc-client
bench-programs := $(BENCH)/pingpong $(BENCH)/limit $(BENCH)/calls $(bench-grpc)
CXX := $(if $(filter default,$(origin CXX)),g++,$(CXX))
BPF_CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)

bench-pingpong-src := $(wildcard bench/workloads/pingpong*.c)
tidy-src += $(bench-pingpong-src) bench/workloads/calls.c bench/peers/limit.c

.PHONY: bench bench-programs demo
bench: build-all bench-programs ## build the library and the load programs of bench/run

bench-programs: $(bench-programs)

demo: ## install what is missing, build, show unmodified programs over TCP and over shared memory
	$(Q)scripts/setup demo
	$(Q)$(MAKE) --no-print-directory $(if $(Q),-s) $(jobs) build-all bench-programs
	$(Q)bench/demo

$(BENCH)/pingpong: $(bench-pingpong-src:%.c=$(BUILD)/%.o)
$(BENCH)/limit: $(BUILD)/bench/peers/limit.o
$(BENCH)/calls: $(BUILD)/bench/workloads/calls.o
$(BENCH)/pingpong $(BENCH)/limit $(BENCH)/calls:
	$(call say,LD,$@)$(CC) $(NN_LDFLAGS) $(LDFLAGS) -o $@ $^

# gRPC: generated code is compiled as it comes, ours with warnings.
bench-cxxflags = -std=gnu++17 -O2 -g -I. -I$(BENCH)/grpc $(shell pkg-config --cflags grpc++ protobuf)

$(BENCH)/grpc/bench.pb.cc: bench/workloads/grpc/bench.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)protoc -I$(<D) --cpp_out=$(@D) --grpc_out=$(@D) \
		--plugin=protoc-gen-grpc="$$(command -v grpc_cpp_plugin)" $<
$(BENCH)/grpc/bench.grpc.pb.cc $(BENCH)/grpc/bench.pb.h $(BENCH)/grpc/bench.grpc.pb.h: $(BENCH)/grpc/bench.pb.cc ;

$(BENCH)/grpc/%.pb.o: $(BENCH)/grpc/%.pb.cc
	$(call say,CXX,$<)$(CXX) $(bench-cxxflags) -c -o $@ $<
$(BENCH)/grpc/%.o: bench/workloads/grpc/%.cc $(BENCH)/grpc/bench.pb.cc
	$(call say,CXX,$<)$(CXX) $(bench-cxxflags) -Wall -Wextra -MMD -MP -c -o $@ $<

bench-grpc-objects := $(BENCH)/grpc/bench.pb.o $(BENCH)/grpc/bench.grpc.pb.o
$(BENCH)/grpc-server: $(BENCH)/grpc/server.o $(bench-grpc-objects)
$(BENCH)/grpc-client: $(BENCH)/grpc/client.o $(bench-grpc-objects)
$(bench-grpc):
	$(call say,LD,$@)$(CXX) -o $@ $^ $$(pkg-config --libs grpc++ protobuf)

# The sockmap peer is optional: without the tools bench/run says so and goes on.
ifneq ($(and $(shell command -v $(BPF_CLANG)),$(shell command -v $(BPFTOOL)),$(wildcard /usr/include/bpf/libbpf.h)),)
bench-programs: $(BENCH)/sockmap
endif

$(BENCH)/sockmap.bpf.o: bench/peers/sockmap.bpf.c bench/peers/sockmap.h
	@mkdir -p $(@D)
	$(call say,BPF,$<)$(BPF_CLANG) -target bpf -O2 -g -Wall -I. -I/usr/include/$(shell $(CC) -print-multiarch) -c -o $@ $<
$(BENCH)/sockmap.skel.h: $(BENCH)/sockmap.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name sockmap_bpf >$@
$(BENCH)/sockmap: bench/peers/sockmap.c $(BENCH)/sockmap.skel.h
	$(call say,CC,$@)$(CC) -std=gnu17 -Wall -Wextra $(CFLAGS) -I. -I$(BENCH) -o $@ $< -lbpf -lelf -lz
