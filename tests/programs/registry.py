# SPDX-License-Identifier: BSD-2-Clause
"""The list of program tests, which the files of families/ fill when they are imported, and how they are played."""
import functools
import os
import subprocess
import sys
import time
import traceback

from lab import Failure, Lab, Skip

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


def play(tests, words, listed=False, timed=False):
    """Runs the tests whose names begin with one of `words`, or all, in a network namespace; the exit status for scripts/test."""
    names = [n for n in tests if not words or any(n.startswith(w) for w in words)]
    if listed:
        print("\n".join(names))
        return 0
    shim = os.environ.get("SHIM", os.path.join(BUILD, "libnotnets_shim.so"))
    if shim == "none":
        shim = None
    elif not os.path.exists(shim):
        print(f"skip programs no {shim}")
        return 77
    else:
        shim = os.path.abspath(shim)
    if os.environ.get("NN_OWN_NETWORK") != "1":
        probe = subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL, check=False)
        if not probe.returncode:
            os.execvpe("unshare", ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"] + sys.argv,
                       dict(os.environ, NN_OWN_NETWORK="1"))
    failed = passed = 0
    for name in names:
        function, early = tests[name]
        lab = Lab(shim, name, early)
        begun = time.monotonic()
        try:
            try:
                function(lab)
            finally:
                lab.finish()
            print("ok", name, f"({time.monotonic() - begun:.1f} s)" if timed else "", flush=True)
            passed += 1
        except Skip as reason:
            print("skip", name, reason, flush=True)
        except Failure as failure:
            failed += 1
            print("not ok", name)
            print("  " + str(failure).replace("\n", "\n  "), flush=True)
        except Exception:  # the test itself is at fault
            failed += 1
            print("not ok", name)
            print("  " + traceback.format_exc().replace("\n", "\n  "), flush=True)
        finally:
            lab.clean()
    return 1 if failed else 0 if passed else 77
