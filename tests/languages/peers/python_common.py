# SPDX-License-Identifier: BSD-2-Clause
"""What the two Python peers share: the generated code, bytes, settings."""
import os
import sys
import zlib

import grpc

GENERATED = os.environ["GENERATED"]
sys.path.insert(0, GENERATED)
import echo_pb2 as pb  # noqa: E402
import echo_pb2_grpc as rpc  # noqa: E402,F401

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PINGS = [("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
SERVER = UNLIMITED + PINGS + [("grpc.keepalive_time_ms", 200), ("grpc.http2.max_ping_strikes", 0)]
CLIENT = UNLIMITED + PINGS + [("grpc.keepalive_time_ms", 150), ("grpc.initial_reconnect_backoff_ms", 100),
                              ("grpc.min_reconnect_backoff_ms", 1000), ("grpc.max_reconnect_backoff_ms", 500)]
TEXT, BYTES = "t" * 2000, bytes(range(256)) * 4
METADATA = (("x-bytes-bin", BYTES), ("x-text", TEXT))
SIZES = [0, 1, 100, 16383, 65536, 1048577, 4194304, 67108864]
MISSING = "no such load: ☃"
NOT_FOUND, CANCELLED = (grpc.StatusCode.NOT_FOUND,), (grpc.StatusCode.CANCELLED,)
TOO_LATE = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


def _block():
    x, block = 1, bytearray()
    for _ in range(65521):
        x = x * 1103515245 + 12345 & 0xffffffff
        block.append(x >> 16 & 255)
    return bytes(block)


BLOCK = _block()


def load_of(size, number=0):
    first = BLOCK[number % len(BLOCK):]
    data = (first + BLOCK * (size // len(BLOCK) + 1))[:size]
    return pb.Load(data=data, crc=zlib.crc32(data), number=number)


def is_whole(load):
    return zlib.crc32(load.data) == load.crc


def add_to(total, load):
    total.messages += 1
    total.bytes += len(load.data)
    total.crc = zlib.crc32(load.data, total.crc)


def require(holds, what):
    if not holds:
        print("failed:", what, flush=True)
        os._exit(1)  # whatever other threads wait for


def require_same(got, sent):
    require(got == sent, f"load {got.number} of {len(got.data)} bytes, not {sent.number} of {len(sent.data)}")


def echoed(metadata):
    return tuple(sorted((k, v) for k, v in metadata if k in ("x-text", "x-bytes-bin")))


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def loads_to_collect():
    loads = [load_of(i * i * 37 % 50000, i) for i in range(100)]
    total = pb.Sum()
    for load in loads:
        add_to(total, load)
    return loads, total
