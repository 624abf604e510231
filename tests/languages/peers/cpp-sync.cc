// SPDX-License-Identifier: BSD-2-Clause
// C++, with calls that block a thread each.
#include <chrono>
#include <thread>
#include "cpp.h"

namespace {

class Service final : public Echo::Service {
	Status Unary(grpc::ServerContext *context, const Load *load, Load *reply) override
	{
		*reply = *load;
		return answer_unary(context, *load);
	}

	Status Collect(grpc::ServerContext *, grpc::ServerReader<Load> *reader, Sum *sum) override
	{
		Load load;
		while (reader->Read(&load)) {
			if (Status status = check(load); !status.ok())
				return status;
			add_to(sum, load);
		}
		return Status::OK;
	}

	Status Deal(grpc::ServerContext *, const Order *order, grpc::ServerWriter<Load> *writer) override
	{
		Load load = order->load();
		for (unsigned i = 0; i < order->times(); i++) {
			load.set_number(i);
			writer->Write(load);
		}
		return check(load);
	}

	Status Talk(grpc::ServerContext *, grpc::ServerReaderWriter<Load, Load> *stream) override
	{
		Load load;
		while (stream->Read(&load)) {
			if (Status status = check(load); !status.ok())
				return status;
			stream->Write(load);
		}
		return Status::OK;
	}

	Status Wait(grpc::ServerContext *context, const Nothing *, Nothing *) override
	{
		while (!context->IsCancelled())
			std::this_thread::sleep_for(std::chrono::milliseconds(10));
		given_up++;
		return Status::CANCELLED;
	}

	Status GivenUp(grpc::ServerContext *, const Nothing *, Sum *sum) override
	{
		sum->set_messages(given_up);
		return Status::OK;
	}
};

class SyncConversation final : public Conversation {
	std::unique_ptr<grpc::ClientReaderWriter<Load, Load>> stream;

public:
	explicit SyncConversation(std::unique_ptr<grpc::ClientReaderWriter<Load, Load>> s) : stream(std::move(s)) {}
	bool write(const Load &load) override { return stream->Write(load); }
	bool read(Load *load) override { return stream->Read(load); }
	void writes_done() override { stream->WritesDone(); }
	Status finish() override { return stream->Finish(); }
};

class SyncCalls final : public Calls {
	std::unique_ptr<Echo::Stub> stub;

public:
	explicit SyncCalls(const std::shared_ptr<grpc::Channel> &channel) : stub(Echo::NewStub(channel)) {}

	Status unary(ClientContext *context, const Load &load, Load *reply) override { return stub->Unary(context, load, reply); }

	Status collect(ClientContext *context, const std::vector<Load> &loads, Sum *sum) override
	{
		auto writer = stub->Collect(context, sum);
		for (auto &load : loads)
			if (!writer->Write(load))
				break;
		writer->WritesDone();
		return writer->Finish();
	}

	Status deal(ClientContext *context, const Order &order, const std::function<void(const Load &)> &take) override
	{
		auto reader = stub->Deal(context, order);
		Load load;
		while (reader->Read(&load))
			take(load);
		return reader->Finish();
	}

	std::unique_ptr<Conversation> talk(ClientContext *context) override
	{
		return std::make_unique<SyncConversation>(stub->Talk(context));
	}

	Status wait(ClientContext *context) override
	{
		Nothing reply;
		return stub->Wait(context, Nothing(), &reply);
	}

	unsigned given_up() override
	{
		ClientContext context;
		Sum sum;
		stub->GivenUp(&context, Nothing(), &sum);
		return sum.messages();
	}
};

}

int main(int argc, char **argv)
{
	Service service;
	return peer_main(argc, argv, &service, [](auto channel) { return std::make_unique<SyncCalls>(channel); });
}
