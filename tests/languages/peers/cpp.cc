// SPDX-License-Identifier: BSD-2-Clause
#include "cpp.h"
#include <zlib.h>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

using namespace std::chrono_literals;
std::atomic<unsigned> given_up;

uint32_t crc_of(const std::string &data, uint32_t before)
{
	return crc32(before, reinterpret_cast<const Bytef *>(data.data()), data.size());
}

Status check(const Load &load)
{
	return crc_of(load.data()) == load.crc() ? Status::OK : Status(StatusCode::DATA_LOSS, "wrong checksum");
}

Status answer_unary(grpc::ServerContextBase *context, const Load &load)
{
	for (const char *key : {"x-text", "x-bytes-bin"}) {
		auto [at, end] = context->client_metadata().equal_range(key);
		for (; at != end; ++at) {
			std::string value(at->second.data(), at->second.size());
			context->AddInitialMetadata(key, value);
			context->AddTrailingMetadata(key, value);
		}
	}
	return load.number() == 404 ? Status(StatusCode::NOT_FOUND, "no such load: ☃") : check(load);
}

void add_to(Sum *sum, const Load &load)
{
	sum->set_messages(sum->messages() + 1);
	sum->set_bytes(sum->bytes() + load.data().size());
	sum->set_crc(crc_of(load.data(), sum->crc()));
}

namespace {

std::string contents(const std::string &path)
{
	std::ifstream file(path);
	std::ostringstream text;
	text << file.rdbuf();
	return text.str();
}

[[noreturn]] void fail(const std::string &why)
{
	std::cout << "failed: " << why << std::endl;
	std::_Exit(1);
}

void require(bool holds, const std::string &what)
{
	if (!holds)
		fail(what);
}

void require_ok(const Status &status)
{
	if (!status.ok())
		fail(std::to_string(status.error_code()) + " " + status.error_message());
}

// `size` bytes that differ from their neighbours at every distance that a lost or doubled page, segment or message makes.
Load load_of(size_t size, unsigned number = 0)
{
	static const std::string block = [] {
		std::string bytes(65521, 0);
		uint32_t x = 1;
		for (char &byte : bytes) {
			x = x * 1103515245 + 12345;
			byte = static_cast<char>(x >> 16);
		}
		return bytes;
	}();
	std::string data;
	data.reserve(size);
	for (size_t at = number % block.size(); data.size() < size; at = 0)
		data.append(block, at, size - data.size());
	Load load;
	load.set_crc(crc_of(data));
	load.set_number(number);
	load.set_data(std::move(data));
	return load;
}

void require_same(const Load &got, const Load &sent)
{
	require(got.crc() == sent.crc() && got.number() == sent.number() && got.data() == sent.data(),
		"load " + std::to_string(got.number()) + " of " + std::to_string(got.data().size()) + " bytes, not " +
			std::to_string(sent.number()) + " of " + std::to_string(sent.data().size()));
}

void unary(Calls &calls, size_t size, unsigned number = 0)
{
	ClientContext context;
	Load load = load_of(size, number), reply;
	require_ok(calls.unary(&context, load, &reply));
	require_same(reply, load);
}

void exchange(Conversation &talk, size_t size, unsigned number)
{
	Load load = load_of(size, number), reply;
	require(talk.write(load) && talk.read(&reply), "the conversation ended");
	require_same(reply, load);
}

void sizes(Calls &calls)
{
	for (size_t size : {0, 1, 100, 16383, 65536, 1048577, 4194304, 67108864})
		unary(calls, size);
}

void many(Calls &calls)
{
	for (unsigned i = 0; i < 200; i++)
		unary(calls, i, i);
}

void collect(Calls &calls)
{
	std::vector<Load> loads;
	Sum want, got;
	for (unsigned i = 0; i < 100; i++) {
		loads.push_back(load_of(i * i * 37 % 50000, i));
		add_to(&want, loads.back());
	}
	ClientContext context;
	require_ok(calls.collect(&context, loads, &got));
	require(want.SerializeAsString() == got.SerializeAsString(), "another sum");
}

void deal(Calls &calls)
{
	Order order;
	*order.mutable_load() = load_of(10000);
	order.set_times(200);
	ClientContext context;
	unsigned number = 0;
	Load want = order.load();
	require_ok(calls.deal(&context, order, [&](const Load &load) {
		want.set_number(number++);
		require_same(load, want);
	}));
	require(number == order.times(), std::to_string(number) + " loads");
}

void talk(Calls &calls)
{
	ClientContext context;
	auto talk = calls.talk(&context);
	for (unsigned i = 0; i < 50; i++)
		exchange(*talk, i * 101, i);
	std::thread writer([&] {
		for (unsigned i = 0; i < 100; i++)
			require(talk->write(load_of(20000, i)), "cannot write");
		talk->writes_done();
	});
	Load load;
	unsigned number = 0;
	for (; talk->read(&load); number++)
		require_same(load, load_of(20000, number));
	writer.join();
	require_ok(talk->finish());
	require(number == 100, std::to_string(number) + " loads");
}

void parallel(Calls &calls)
{
	std::vector<std::thread> threads;
	for (unsigned i = 0; i < 8; i++)
		threads.emplace_back([&calls, i] {
			unary(calls, 500000, i);
			unary(calls, 500000, i + 8);
		});
	for (auto &thread : threads)
		thread.join();
}

void metadata(Calls &calls)
{
	std::string text(2000, 't'), bytes;
	for (int i = 0; i < 1024; i++)
		bytes.push_back(static_cast<char>(i));
	ClientContext context;
	context.AddMetadata("x-text", text);
	context.AddMetadata("x-bytes-bin", bytes);
	Load load = load_of(10), reply;
	require_ok(calls.unary(&context, load, &reply));
	for (auto *map : {&context.GetServerInitialMetadata(), &context.GetServerTrailingMetadata()}) {
		auto a = map->find("x-text"), b = map->find("x-bytes-bin");
		require(a != map->end() && a->second == text && b != map->end() && b->second == bytes, "other metadata");
	}
}

void failure(Calls &calls)
{
	ClientContext context;
	Load reply;
	Status status = calls.unary(&context, load_of(10, 404), &reply);
	require(status.error_code() == StatusCode::NOT_FOUND && status.error_message() == "no such load: ☃", "another status");
}

void await_given_up(Calls &calls, unsigned count)
{
	for (int i = 0; i < 500 && calls.given_up() < count; i++)
		std::this_thread::sleep_for(10ms);
	require(calls.given_up() >= count, "the server does not notice that a call was given up");
}

void deadline(Calls &calls)
{
	unsigned before = calls.given_up();
	ClientContext context;
	context.set_deadline(std::chrono::system_clock::now() + 200ms);
	StatusCode code = calls.wait(&context).error_code();
	require(code == StatusCode::DEADLINE_EXCEEDED || code == StatusCode::CANCELLED, "another status");
	await_given_up(calls, before + 1);
}

void cancel(Calls &calls)
{
	unsigned before = calls.given_up();
	ClientContext context;
	std::thread other([&] {
		std::this_thread::sleep_for(100ms);
		context.TryCancel();
	});
	require(calls.wait(&context).error_code() == StatusCode::CANCELLED, "another status");
	other.join();
	await_given_up(calls, before + 1);
	ClientContext talking;
	auto talk = calls.talk(&talking);
	exchange(*talk, 1000, 0);
	talking.TryCancel();
	Load load;
	while (talk->read(&load))
		;
	require(talk->finish().error_code() == StatusCode::CANCELLED, "another status");
}

// Longer than some pings of either side, with a call that waits and without one.
void keepalive(Calls &calls)
{
	ClientContext context;
	auto talk = calls.talk(&context);
	for (unsigned i = 0; i < 2; i++) {
		exchange(*talk, 1000, i);
		std::this_thread::sleep_for(600ms);
	}
	talk->writes_done();
	require_ok(talk->finish());
	std::this_thread::sleep_for(600ms);
	unary(calls, 1000);
}

// Commands come by standard input; each is answered with a line.
void outlive(Calls &calls)
{
	std::unique_ptr<ClientContext> context;
	std::unique_ptr<Conversation> talk;
	std::string command = "hold";
	do {
		if (command == "hold") {
			context = std::make_unique<ClientContext>();
			talk = calls.talk(context.get());
			exchange(*talk, 1000, 0);
		} else if (command == "finish") {
			for (unsigned i = 0; i < 20; i++)
				exchange(*talk, i * 1000, i);
			talk->writes_done();
			require_ok(talk->finish());
		} else if (command == "lost") {
			Load load;
			require(!talk->read(&load), "something came from a dead server");
			require(!talk->finish().ok(), "an orderly end from a dead server");
		} else if (command == "again") {
			Status status;
			for (int i = 0; i < 100; i++) {
				ClientContext trial;
				trial.set_deadline(std::chrono::system_clock::now() + 5s);
				Load load = load_of(1000), reply;
				if ((status = calls.unary(&trial, load, &reply)).ok())
					break;
				std::this_thread::sleep_for(100ms);
			}
			require_ok(status);
			many(calls);
		}
		std::cout << command << std::endl;
	} while (std::getline(std::cin, command));
}

int serve(const std::string &port, const std::string &cert, const std::string &key, grpc::Service *service)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, nullptr);
	auto credentials = grpc::InsecureServerCredentials();
	if (!cert.empty()) {
		grpc::SslServerCredentialsOptions options;
		options.pem_key_cert_pairs.push_back({contents(key), contents(cert)});
		credentials = grpc::SslServerCredentials(options);
	}
	int bound = 0;
	grpc::ServerBuilder builder;
	builder.AddListeningPort("127.0.0.1:" + port, credentials, &bound);
	builder.RegisterService(service);
	builder.SetMaxReceiveMessageSize(-1);
	builder.SetMaxSendMessageSize(-1);
	builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 200);
	builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
	builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
	builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
	auto server = builder.BuildAndStart();
	require(server && bound, "cannot listen");
	std::cout << "PORT " << bound << std::endl;
	int number;
	sigwait(&set, &number);
	server->Shutdown(std::chrono::system_clock::now() + 10s);
	server->Wait();
	return 0;
}

}

int peer_main(int argc, char **argv, grpc::Service *service,
	      const std::function<std::unique_ptr<Calls>(std::shared_ptr<grpc::Channel>)> &make)
{
	std::vector<std::string> words(argv + 1, argv + argc);
	words.resize(4);
	if (words[0] == "serve")
		return serve(words[1], words[2], words[3], service);
	auto credentials = grpc::InsecureChannelCredentials();
	if (!words[2].empty()) {
		grpc::SslCredentialsOptions options;
		options.pem_root_certs = contents(words[2]);
		credentials = grpc::SslCredentials(options);
	}
	grpc::ChannelArguments arguments;
	arguments.SetMaxReceiveMessageSize(-1);
	arguments.SetMaxSendMessageSize(-1);
	arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 150);
	arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
	arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
	arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
	arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
	arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
	auto calls = make(grpc::CreateCustomChannel("127.0.0.1:" + words[1], credentials, arguments));
	if (words[0] == "outlive") {
		outlive(*calls);
		return 0;
	}
	const std::pair<const char *, void (*)(Calls &)> cases[] = {
		{"sizes", sizes}, {"many", many}, {"collect", collect}, {"deal", deal}, {"talk", talk}, {"parallel", parallel},
		{"metadata", metadata}, {"failure", failure}, {"deadline", deadline}, {"cancel", cancel}, {"keepalive", keepalive}};
	for (auto &[name, play] : cases) {
		auto begun = std::chrono::steady_clock::now();
		play(*calls);
		std::cout << name << " " << (std::chrono::steady_clock::now() - begun) / 1ms << " ms" << std::endl;
	}
	return 0;
}
