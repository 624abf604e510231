# SPDX-License-Identifier: BSD-2-Clause
"""The list of program tests, which the files of families/ fill when they are imported."""
import functools
import os

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(HERE, "../../build")))
PEERS = ["/usr/bin/python3", os.path.join(HERE, "peers.py")]
MODES = {"both": (True, True), "server": (True, False), "client": (False, True), "neither": (False, False)}
TESTS = {}  # name: (function, early)


def test(name, early=False, full=False):
    """Registers a test that gets a Lab; `full`: only where FULL is set."""
    def add(function):
        if os.environ.get("FULL") or not full:
            TESTS[name] = (function, early)
        return function
    return add


def each_mode(name, full=False):
    """Registers a test four times; it gets (lab, server shimmed?, client shimmed?)."""
    def add(function):
        for mode, (server, client) in MODES.items():
            test(f"{name}-{mode}", full=full)(functools.partial(function, server=server, client=client))
        return function
    return add
