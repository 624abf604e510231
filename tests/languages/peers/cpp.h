// SPDX-License-Identifier: BSD-2-Clause
// What the two C++ peers share: bytes, channels, servers, and the cases, which are played through `Calls`.
#pragma once
#include <grpcpp/grpcpp.h>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include "echo.grpc.pb.h"

using grpc::ClientContext;
using grpc::Status;
using grpc::StatusCode;
using notnets::languages::Echo;
using notnets::languages::Load;
using notnets::languages::Nothing;
using notnets::languages::Order;
using notnets::languages::Sum;

uint32_t crc_of(const std::string &data, uint32_t before = 0);
Status check(const Load &load);
// The status of Unary, whose metadata is sent back.
Status answer_unary(grpc::ServerContextBase *context, const Load &load);
void add_to(Sum *sum, const Load &load);
extern std::atomic<unsigned> given_up;

struct Conversation {
	virtual ~Conversation() = default;
	virtual bool write(const Load &load) = 0;
	virtual bool read(Load *load) = 0;
	virtual void writes_done() = 0;
	virtual Status finish() = 0;
};

struct Calls {
	virtual ~Calls() = default;
	virtual Status unary(ClientContext *context, const Load &load, Load *reply) = 0;
	virtual Status collect(ClientContext *context, const std::vector<Load> &loads, Sum *sum) = 0;
	virtual Status deal(ClientContext *context, const Order &order, const std::function<void(const Load &)> &take) = 0;
	virtual std::unique_ptr<Conversation> talk(ClientContext *context) = 0;
	virtual Status wait(ClientContext *context) = 0;
	virtual unsigned given_up() = 0;
};

// serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]
int peer_main(int argc, char **argv, grpc::Service *service,
	      const std::function<std::unique_ptr<Calls>(std::shared_ptr<grpc::Channel>)> &calls);
