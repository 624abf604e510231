# SPDX-License-Identifier: BSD-2-Clause
"""Python, grpc.aio: serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]"""
import asyncio
import signal
import sys
import time

import grpc
from python_common import (CLIENT, METADATA, MISSING, NOT_FOUND, SERVER, SIZES, TOO_LATE, add_to, contents, echoed, is_whole,
                           load_of, loads_to_collect, pb, require, require_same, rpc)


class Service(rpc.EchoServicer):
    given_up = 0

    @staticmethod
    async def check(context, load):
        if not is_whole(load):
            await context.abort(grpc.StatusCode.DATA_LOSS, "wrong checksum")

    async def Unary(self, request, context):
        metadata = echoed(context.invocation_metadata())
        await context.send_initial_metadata(metadata)
        context.set_trailing_metadata(metadata)
        if request.number == 404:
            await context.abort(grpc.StatusCode.NOT_FOUND, MISSING)
        await self.check(context, request)
        return request

    async def Collect(self, request_iterator, context):
        total = pb.Sum()
        async for load in request_iterator:
            await self.check(context, load)
            add_to(total, load)
        return total

    async def Deal(self, request, context):
        await self.check(context, request.load)
        for i in range(request.times):
            request.load.number = i
            yield request.load

    async def Talk(self, request_iterator, context):
        async for load in request_iterator:
            await self.check(context, load)
            yield load

    async def Wait(self, request, context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            Service.given_up += 1
            raise

    async def GivenUp(self, request, context):
        return pb.Sum(messages=self.given_up)


async def serve(port, cert=None, key=None):
    server = grpc.aio.server(options=SERVER)
    rpc.add_EchoServicer_to_server(Service(), server)
    if cert:
        port = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(contents(key), contents(cert))]))
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("PORT", port, flush=True)
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await server.stop(10)


async def unary(stub, size, number=0):
    load = load_of(size, number)
    require_same(await stub.Unary(load), load)


async def exchange(call, size, number):
    load = load_of(size, number)
    await call.write(load)
    require_same(await call.read(), load)


async def end(call):
    await call.done_writing()
    require(await call.read() is grpc.aio.EOF and await call.code() == grpc.StatusCode.OK, "no orderly end")


async def sizes(stub):
    for size in SIZES:
        await unary(stub, size)


async def many(stub):
    for i in range(200):
        await unary(stub, i, i)


async def collect(stub):
    loads, total = loads_to_collect()
    call = stub.Collect()
    for load in loads:
        await call.write(load)
    await call.done_writing()
    require(await call == total, "another sum")


async def deal(stub):
    want, number = load_of(10000), 0
    async for load in stub.Deal(pb.Order(load=want, times=200)):
        want.number, number = number, number + 1
        require_same(load, want)
    require(number == 200, f"{number} loads")


async def talk(stub):
    call = stub.Talk()
    for i in range(50):
        await exchange(call, i * 101, i)

    async def write():
        for i in range(100):
            await call.write(load_of(20000, i))

    writing = asyncio.create_task(write())
    for i in range(100):
        require_same(await call.read(), load_of(20000, i))
    await writing
    await end(call)


async def parallel(stub):
    async def two(i):
        await unary(stub, 500000, i)
        await unary(stub, 500000, i + 8)
    await asyncio.gather(*map(two, range(8)))


async def metadata(stub):
    call = stub.Unary(load_of(10), metadata=METADATA)
    await call
    for back in (await call.initial_metadata(), await call.trailing_metadata()):
        require(echoed(back) == METADATA, "other metadata")


async def expect(codes, awaitable, details=None):
    try:
        await awaitable
    except grpc.aio.AioRpcError as error:
        require(error.code() in codes and details in (None, error.details()), f"{error.code()} {error.details()}")
    else:
        require(False, f"none of {codes}")


async def failure(stub):
    await expect(NOT_FOUND, stub.Unary(load_of(10, 404)), MISSING)


async def given_up(stub):
    return (await stub.GivenUp(pb.Nothing())).messages


async def await_given_up(stub, count):
    last = time.monotonic() + 5
    while await given_up(stub) < count:
        require(time.monotonic() < last, "the server does not notice that a call was given up")
        await asyncio.sleep(0.01)


async def deadline(stub):
    before = await given_up(stub)
    await expect(TOO_LATE, stub.Wait(pb.Nothing(), timeout=0.2))
    await await_given_up(stub, before + 1)


async def cancel(stub):
    before = await given_up(stub)
    call = stub.Wait(pb.Nothing())
    await asyncio.sleep(0.1)
    call.cancel()
    require(await call.code() == grpc.StatusCode.CANCELLED, "another status")
    await await_given_up(stub, before + 1)
    call = stub.Talk()
    await exchange(call, 1000, 0)
    call.cancel()
    require(await call.code() == grpc.StatusCode.CANCELLED, "another status")


async def keepalive(stub):
    call = stub.Talk()
    for i in range(2):
        await exchange(call, 1000, i)
        await asyncio.sleep(0.6)
    await end(call)
    await asyncio.sleep(0.6)
    await unary(stub, 1000)


async def again(stub):
    for i in range(100):
        try:
            await stub.Unary(load_of(1000), timeout=5)
            return
        except grpc.aio.AioRpcError:
            if i == 99:
                raise
            await asyncio.sleep(0.1)


async def outlive(stub):
    command = "hold"
    while command:
        if command == "hold":
            call = stub.Talk()
            await exchange(call, 1000, 0)
        elif command == "finish":
            for i in range(20):
                await exchange(call, i * 1000, i)
            await end(call)
        elif command == "lost":
            try:
                require(await call.read() is grpc.aio.EOF and await call.code() != grpc.StatusCode.OK, "no sign of the server's death")
            except grpc.aio.AioRpcError:
                pass
        elif command == "again":
            await again(stub)
            await many(stub)
        print(command, flush=True)
        command = (await asyncio.to_thread(sys.stdin.readline)).strip()


async def main(verb, port, cert=None, key=None):
    if verb == "serve":
        return await serve(port, cert, key)
    target = f"127.0.0.1:{port}"
    channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(contents(cert)), CLIENT) if cert else \
        grpc.aio.insecure_channel(target, CLIENT)
    async with channel:
        stub = rpc.EchoStub(channel)
        if verb == "outlive":
            return await outlive(stub)
        for case in (sizes, many, collect, deal, talk, parallel, metadata, failure, deadline, cancel, keepalive):
            begun = time.monotonic()
            await case(stub)
            print(case.__name__, f"{(time.monotonic() - begun) * 1000:.0f} ms", flush=True)


asyncio.run(main(*sys.argv[1:]))
