// SPDX-License-Identifier: BSD-2-Clause
// C++, with reactors: no thread waits for the net on either side, but for the cases of the client, which wait for their
// reactor.
#include <condition_variable>
#include <mutex>
#include "cpp.h"

namespace {

class Service final : public Echo::CallbackService {
	static grpc::ServerUnaryReactor *end(grpc::CallbackServerContext *context, const Status &status)
	{
		auto *reactor = context->DefaultReactor();
		reactor->Finish(status);
		return reactor;
	}

	grpc::ServerUnaryReactor *Unary(grpc::CallbackServerContext *context, const Load *load, Load *reply) override
	{
		*reply = *load;
		return end(context, answer_unary(context, *load));
	}

	grpc::ServerReadReactor<Load> *Collect(grpc::CallbackServerContext *, Sum *sum) override
	{
		struct Reactor final : grpc::ServerReadReactor<Load> {
			Sum *sum;
			Load load;
			explicit Reactor(Sum *s) : sum(s) { StartRead(&load); }
			void OnReadDone(bool ok) override
			{
				Status status = ok ? check(load) : Status::OK;
				if (!ok || !status.ok())
					return Finish(status);
				add_to(sum, load);
				StartRead(&load);
			}
			void OnDone() override { delete this; }
		};
		return new Reactor(sum);
	}

	grpc::ServerWriteReactor<Load> *Deal(grpc::CallbackServerContext *, const Order *order) override
	{
		struct Reactor final : grpc::ServerWriteReactor<Load> {
			Load load;
			unsigned next = 0, times;
			explicit Reactor(const Order *order) : load(order->load()), times(order->times()) { OnWriteDone(true); }
			void OnWriteDone(bool ok) override
			{
				if (!ok || next == times)
					return Finish(check(load));
				load.set_number(next++);
				StartWrite(&load);
			}
			void OnDone() override { delete this; }
		};
		return new Reactor(order);
	}

	grpc::ServerBidiReactor<Load, Load> *Talk(grpc::CallbackServerContext *) override
	{
		struct Reactor final : grpc::ServerBidiReactor<Load, Load> {
			Load load;
			Reactor() { StartRead(&load); }
			void OnReadDone(bool ok) override
			{
				Status status = ok ? check(load) : Status::OK;
				if (!ok || !status.ok())
					return Finish(status);
				StartWrite(&load);
			}
			void OnWriteDone(bool) override { StartRead(&load); }
			void OnDone() override { delete this; }
		};
		return new Reactor;
	}

	grpc::ServerUnaryReactor *Wait(grpc::CallbackServerContext *, const Nothing *, Nothing *) override
	{
		struct Reactor final : grpc::ServerUnaryReactor {
			void OnCancel() override
			{
				given_up++;
				Finish(Status::CANCELLED);
			}
			void OnDone() override { delete this; }
		};
		return new Reactor;
	}

	grpc::ServerUnaryReactor *GivenUp(grpc::CallbackServerContext *context, const Nothing *, Sum *sum) override
	{
		sum->set_messages(given_up);
		return end(context, Status::OK);
	}
};

// What a reactor tells a case that waits.
template <typename T> class Mailbox {
	std::mutex mutex;
	std::condition_variable changed;
	std::unique_ptr<T> item;

public:
	void put(T value)
	{
		std::lock_guard lock(mutex);
		item = std::make_unique<T>(std::move(value));
		changed.notify_all();
	}
	T take()
	{
		std::unique_lock lock(mutex);
		changed.wait(lock, [&] { return item != nullptr; });
		T value = std::move(*item);
		item.reset();
		return value;
	}
};

class CallbackConversation final : public Conversation, grpc::ClientBidiReactor<Load, Load> {
	Mailbox<bool> was_read, was_written, was_closed;
	Mailbox<Status> status;

	void OnReadDone(bool ok) override { was_read.put(ok); }
	void OnWriteDone(bool ok) override { was_written.put(ok); }
	void OnWritesDoneDone(bool ok) override { was_closed.put(ok); }
	void OnDone(const Status &s) override { status.put(s); }

public:
	CallbackConversation(Echo::Stub *stub, ClientContext *context)
	{
		stub->async()->Talk(context, this);
		AddHold(); // reads and writes are not started by reactions
		StartCall();
	}
	bool write(const Load &load) override
	{
		StartWrite(&load);
		return was_written.take();
	}
	bool read(Load *load) override
	{
		StartRead(load);
		return was_read.take();
	}
	void writes_done() override
	{
		StartWritesDone();
		was_closed.take();
	}
	Status finish() override
	{
		RemoveHold();
		return status.take();
	}
};

class CallbackCalls final : public Calls {
	std::unique_ptr<Echo::Stub> stub;

public:
	explicit CallbackCalls(const std::shared_ptr<grpc::Channel> &channel) : stub(Echo::NewStub(channel)) {}

	Status unary(ClientContext *context, const Load &load, Load *reply) override
	{
		Mailbox<Status> end;
		stub->async()->Unary(context, &load, reply, [&](Status status) { end.put(status); });
		return end.take();
	}

	Status collect(ClientContext *context, const std::vector<Load> &loads, Sum *sum) override
	{
		struct Reactor final : grpc::ClientWriteReactor<Load> {
			const std::vector<Load> &loads;
			size_t next = 0;
			Mailbox<Status> end;
			explicit Reactor(const std::vector<Load> &l) : loads(l) {}
			void OnWriteDone(bool ok) override
			{
				if (!ok)
					return;
				if (next == loads.size())
					StartWritesDone();
				else
					StartWrite(&loads[next++]);
			}
			void OnDone(const Status &status) override { end.put(status); }
		} reactor(loads);
		stub->async()->Collect(context, sum, &reactor);
		reactor.OnWriteDone(true);
		reactor.StartCall();
		return reactor.end.take();
	}

	Status deal(ClientContext *context, const Order &order, const std::function<void(const Load &)> &take) override
	{
		struct Reactor final : grpc::ClientReadReactor<Load> {
			const std::function<void(const Load &)> &take;
			Load load;
			Mailbox<Status> end;
			explicit Reactor(const std::function<void(const Load &)> &t) : take(t) {}
			void OnReadDone(bool ok) override
			{
				if (!ok)
					return;
				take(load);
				StartRead(&load);
			}
			void OnDone(const Status &status) override { end.put(status); }
		} reactor(take);
		stub->async()->Deal(context, &order, &reactor);
		reactor.StartRead(&reactor.load);
		reactor.StartCall();
		return reactor.end.take();
	}

	std::unique_ptr<Conversation> talk(ClientContext *context) override
	{
		return std::make_unique<CallbackConversation>(stub.get(), context);
	}

	Status wait(ClientContext *context) override
	{
		Mailbox<Status> end;
		Nothing nothing, reply;
		stub->async()->Wait(context, &nothing, &reply, [&](Status status) { end.put(status); });
		return end.take();
	}

	unsigned given_up() override
	{
		Mailbox<Status> end;
		ClientContext context;
		Nothing nothing;
		Sum sum;
		stub->async()->GivenUp(&context, &nothing, &sum, [&](Status status) { end.put(status); });
		end.take();
		return sum.messages();
	}
};

}

int main(int argc, char **argv)
{
	Service service;
	return peer_main(argc, argv, &service, [](auto channel) { return std::make_unique<CallbackCalls>(channel); });
}
