// SPDX-License-Identifier: BSD-2-Clause
// A synchronous gRPC load: `grpc-client ADDRESS unary|stream SECONDS`, prints one line of JSON.
extern "C" {
#include "bench/workloads/latency.h"
}
#include "bench.grpc.pb.h"

#include <cstdlib>
#include <cstring>
#include <grpcpp/grpcpp.h>
#include <string>

namespace {

constexpr size_t payload_bytes = 64;
latency measured;

int fail(const grpc::Status &status)
{
	std::fprintf(stderr, "grpc-client: %s\n", status.error_message().c_str());
	return 1;
}

int unary(bench::Echo::Stub &stub, double seconds)
{
	uint64_t start = now_ns(), end = start + static_cast<uint64_t>(seconds * 1e9), now = start, calls = 0;
	bench::Message request, reply;

	request.set_payload(std::string(payload_bytes, 'x'));
	while (now < end) {
		grpc::ClientContext context;
		uint64_t before = now;
		grpc::Status status = stub.Unary(&context, request, &reply);

		if (!status.ok() || reply.payload().size() != payload_bytes)
			return fail(status);
		now = now_ns();
		latency_note(&measured, now - before);
		calls++;
	}
	latency_print(&measured, calls, calls * payload_bytes, now - start);
	return 0;
}

int stream(bench::Echo::Stub &stub, double seconds)
{
	uint64_t start = now_ns(), messages = 0;
	grpc::ClientContext context;
	bench::StreamRequest request;
	bench::Message message;

	request.set_payload(std::string(payload_bytes, 'x'));
	request.set_milliseconds(static_cast<uint32_t>(seconds * 1e3));
	auto reader = stub.Stream(&context, request);
	while (reader->Read(&message))
		messages++;
	grpc::Status status = reader->Finish();
	if (!status.ok())
		return fail(status);
	latency_print(nullptr, messages, messages * payload_bytes, now_ns() - start);
	return 0;
}

} // namespace

int main(int argc, char **argv)
{
	if (argc != 4)
		return std::fputs("usage: grpc-client ADDRESS unary|stream SECONDS\n", stderr), 2;
	auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
	// Connecting is no part of what is measured.
	if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(5)))
		return std::fputs("grpc-client: no server\n", stderr), 1;
	auto stub = bench::Echo::NewStub(channel);
	return (std::strcmp(argv[2], "stream") == 0 ? stream : unary)(*stub, std::atof(argv[3]));
}
