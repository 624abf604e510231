# SPDX-License-Identifier: BSD-2-Clause
"""Python, grpcio with threads: serve PORT [CERT KEY] | call PORT [CERT] | outlive PORT [CERT]"""
import concurrent.futures
import queue
import signal
import sys
import threading
import time

import grpc
from python_common import (CANCELLED, CLIENT, METADATA, MISSING, NOT_FOUND, SERVER, SIZES, TOO_LATE, add_to, contents, echoed,
                           is_whole, load_of, loads_to_collect, pb, require, require_same, rpc)


class Service(rpc.EchoServicer):
    given_up = 0
    lock = threading.Lock()

    @staticmethod
    def check(context, load):
        if not is_whole(load):
            context.abort(grpc.StatusCode.DATA_LOSS, "wrong checksum")

    def Unary(self, request, context):
        metadata = echoed(context.invocation_metadata())
        context.send_initial_metadata(metadata)
        context.set_trailing_metadata(metadata)
        if request.number == 404:
            context.abort(grpc.StatusCode.NOT_FOUND, MISSING)
        self.check(context, request)
        return request

    def Collect(self, request_iterator, context):
        total = pb.Sum()
        for load in request_iterator:
            self.check(context, load)
            add_to(total, load)
        return total

    def Deal(self, request, context):
        self.check(context, request.load)
        for i in range(request.times):
            request.load.number = i
            yield request.load

    def Talk(self, request_iterator, context):
        for load in request_iterator:
            self.check(context, load)
            yield load

    def Wait(self, request, context):
        end = threading.Event()
        context.add_callback(end.set)
        end.wait()
        with self.lock:
            Service.given_up += 1
        return pb.Nothing()

    def GivenUp(self, request, context):
        return pb.Sum(messages=self.given_up)


def serve(port, cert=None, key=None):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=SERVER)
    rpc.add_EchoServicer_to_server(Service(), server)
    if cert:
        port = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(contents(key), contents(cert))]))
    else:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print("PORT", port, flush=True)
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    end.wait()
    server.stop(10).wait()


class Talk:
    """A conversation, one message at a time."""

    def __init__(self, stub):
        self.outgoing = queue.SimpleQueue()
        self.call = stub.Talk(iter(self.outgoing.get, None))

    def exchange(self, size, number):
        load = load_of(size, number)
        self.outgoing.put(load)
        require_same(next(self.call), load)

    def end(self):
        self.outgoing.put(None)
        require(next(self.call, None) is None and self.call.code() == grpc.StatusCode.OK, "no orderly end")


def unary(stub, size, number=0):
    load = load_of(size, number)
    require_same(stub.Unary(load), load)


def sizes(stub):
    for size in SIZES:
        unary(stub, size)


def many(stub):
    for i in range(200):
        unary(stub, i, i)


def collect(stub):
    loads, total = loads_to_collect()
    require(stub.Collect(iter(loads)) == total, "another sum")


def deal(stub):
    want, number = load_of(10000), 0
    for load in stub.Deal(pb.Order(load=want, times=200)):
        want.number, number = number, number + 1
        require_same(load, want)
    require(number == 200, f"{number} loads")


def talk(stub):
    talking = Talk(stub)
    for i in range(50):
        talking.exchange(i * 101, i)
    for i in range(100):
        talking.outgoing.put(load_of(20000, i))
    for i in range(100):
        require_same(next(talking.call), load_of(20000, i))
    talking.end()


def parallel(stub):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: unary(stub, 500000, i), range(16)))


def metadata(stub):
    _, call = stub.Unary.with_call(load_of(10), metadata=METADATA)
    for back in (call.initial_metadata(), call.trailing_metadata()):
        require(echoed(map(tuple, back)) == METADATA, "other metadata")


def expect(codes, function, details=None):
    try:
        function()
    except grpc.RpcError as error:
        require(error.code() in codes and details in (None, error.details()), f"{error.code()} {error.details()}")
    else:
        require(False, f"none of {codes}")


def failure(stub):
    expect(NOT_FOUND, lambda: stub.Unary(load_of(10, 404)), MISSING)


def await_given_up(stub, count):
    end = time.monotonic() + 5
    while stub.GivenUp(pb.Nothing()).messages < count:
        require(time.monotonic() < end, "the server does not notice that a call was given up")
        time.sleep(0.01)


def deadline(stub):
    before = stub.GivenUp(pb.Nothing()).messages
    expect(TOO_LATE, lambda: stub.Wait(pb.Nothing(), timeout=0.2))
    await_given_up(stub, before + 1)


def cancel(stub):
    before = stub.GivenUp(pb.Nothing()).messages
    call = stub.Wait.future(pb.Nothing())
    time.sleep(0.1)
    call.cancel()
    require(call.code() == grpc.StatusCode.CANCELLED, "another status")
    await_given_up(stub, before + 1)
    talking = Talk(stub)
    talking.exchange(1000, 0)
    talking.call.cancel()
    expect(CANCELLED, lambda: next(talking.call))
    talking.outgoing.put(None)


def keepalive(stub):
    talking = Talk(stub)
    for i in range(2):
        talking.exchange(1000, i)
        time.sleep(0.6)
    talking.end()
    time.sleep(0.6)
    unary(stub, 1000)


def again(stub):
    for i in range(100):
        try:
            stub.Unary(load_of(1000), timeout=5)
            return
        except grpc.RpcError:
            if i == 99:
                raise
            time.sleep(0.1)


def outlive(stub):
    command = "hold"
    while command:
        if command == "hold":
            talking = Talk(stub)
            talking.exchange(1000, 0)
        elif command == "finish":
            for i in range(20):
                talking.exchange(i * 1000, i)
            talking.end()
        elif command == "lost":
            try:
                next(talking.call)
                require(False, "something came from a dead server")
            except grpc.RpcError:
                talking.outgoing.put(None)
        elif command == "again":
            again(stub)
            many(stub)
        print(command, flush=True)
        command = sys.stdin.readline().strip()


def main(verb, port, cert=None, key=None):
    if verb == "serve":
        return serve(port, cert, key)
    target = f"127.0.0.1:{port}"
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(contents(cert)), CLIENT) if cert else \
        grpc.insecure_channel(target, CLIENT)
    with channel:
        stub = rpc.EchoStub(channel)
        if verb == "outlive":
            return outlive(stub)
        for case in (sizes, many, collect, deal, talk, parallel, metadata, failure, deadline, cancel, keepalive):
            begun = time.monotonic()
            case(stub)
            print(case.__name__, f"{(time.monotonic() - begun) * 1000:.0f} ms", flush=True)


main(*sys.argv[1:])
