#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A client of application.py, with http.client: post.py PORT CONNECTIONS REQUESTS MAX_BYTES"""
import hashlib
import http.client
import random
import sys
import threading


def talk(port, number, requests, most):
    dice = random.Random(number)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(requests):
        body = dice.randbytes(dice.randrange(dice.choice((10, 3000, most))))
        connection.request("POST", "/", body)
        if connection.getresponse().read() != hashlib.sha256(body).digest() + body[::-1]:
            raise ValueError("a reply is wrong")
        size = dice.randrange(most)
        connection.request("GET", f"/{size}")
        if len(connection.getresponse().read()) != size:
            raise ValueError("a page is wrong")
    connection.close()


def main():
    port, connections, requests, most = map(int, sys.argv[1:])
    errors = []

    def one(number):
        try:
            talk(port, number, requests, most)
        except BaseException as error:  # noqa: B902: whatever it is, the main thread has to know
            errors.append(repr(error))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise SystemExit("; ".join(errors))


if __name__ == "__main__":
    main()
