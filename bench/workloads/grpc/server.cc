// SPDX-License-Identifier: BSD-2-Clause
// A synchronous gRPC server: `grpc-server ADDRESS`, ends cleanly on SIGTERM or SIGINT.
#include "bench.grpc.pb.h"

#include <chrono>
#include <csignal>
#include <cstdio>
#include <grpcpp/grpcpp.h>

namespace {

class EchoService final : public bench::Echo::Service {
	grpc::Status Unary(grpc::ServerContext *, const bench::Message *request, bench::Message *reply) override
	{
		reply->set_payload(request->payload());
		return grpc::Status::OK;
	}

	grpc::Status Stream(grpc::ServerContext *, const bench::StreamRequest *request,
		grpc::ServerWriter<bench::Message> *writer) override
	{
		auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(request->milliseconds());
		bench::Message message;

		message.set_payload(request->payload());
		while (std::chrono::steady_clock::now() < end && writer->Write(message))
			continue;
		return grpc::Status::OK;
	}
};

} // namespace

int main(int argc, char **argv)
{
	sigset_t ends;
	int which;

	if (argc != 2)
		return std::fputs("usage: grpc-server ADDRESS\n", stderr), 2;
	// Blocked before the first thread exists, so that only sigwait below sees them.
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, nullptr);

	EchoService service;
	grpc::ServerBuilder builder;
	builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials());
	builder.RegisterService(&service);
	auto server = builder.BuildAndStart();
	if (!server)
		return std::fputs("grpc-server: cannot listen\n", stderr), 1;
	sigwait(&ends, &which);
	server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
	return 0;
}
