# SPDX-License-Identifier: BSD-2-Clause
"""Runs suites that nobody wrote for the shim, and compares: each test must end the same way with it as without.

A Suite has parts. Each part is run once on TCP and once with the shim, in a network namespace of its own where `localhost`
is 127.0.0.1 and ::1, and where all streams switch as soon as they can. The outcomes without the shim are kept in
BUILD/suites/results and used again while the suite is the same. A test that ends otherwise with the shim is run three times
more on TCP: when it ever ends so there too, it is the test that wavers, and is listed as such, not as a failure. A test that
comes to no end either way proves nothing and is a failure; so is a part of `must_switch` that switched nothing.

One line a part: tests, how many differ, streams (connections with the shim at both ends), directions that moved to a ring,
and the seconds with the shim.
"""
import concurrent.futures
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
STATUS = "the exit status"
ENDLESS = "no end"
PASSED = {"ok", "PASSED"}


class Suite:
    """A suite. What follows is what most have."""
    name = ""
    must_switch = frozenset()  # parts
    alone = False  # two runs at once would meet in the file system

    def __init__(self, build):
        self.folder = os.path.join(build, "suites", self.name)

    def missing(self):
        """Why it cannot be run here, or None."""

    def fetch(self):
        """Lays it into self.folder and builds it."""

    def parts(self):
        return [self.name]

    def seconds(self, part):
        """What a part may take."""
        return 420

    def command(self, part, tests):
        """The command of a part; `tests`: None for all, or those that are asked for, where more may be run."""
        raise NotImplementedError

    def environment(self, folder):
        """What it needs besides; `folder` is the run's own."""
        return {}

    def cwd(self, folder):
        """Where it is run."""
        return folder

    def outcomes(self, part, text):
        """test -> outcome, from the output."""
        raise NotImplementedError

    def stamp(self):
        """Other outcomes are to be expected when this is another."""
        return "".join(inspect.getsource(c) for c in type(self).__mro__[:-1])


# ---- outputs ------------------------------------------------------------------------------------------------------------
# Python says "test_x (package.module.Class.test_x) ... ok", sometimes with output in between, or "... 1.02s ok"; a test with a
# docstring has its first line between the two.
START = re.compile(r"^(\w+) \(((\w+)\.[\w.]+|(__main__)[\w.]*)\)")
END = re.compile(r"(?:\.\.\. (?:[\d.]+s )?|^)(ok|FAIL|ERROR|skipped .*|expected failure|unexpected success)$")


def unittest_outcomes(text, package):
    found, begun = {}, []  # test_eintr has tests within its test
    for line in text.splitlines():
        if (match := START.match(line)) and (match[3] or match[4]) in (package, "__main__"):
            current = match[2] if match[2].endswith("." + match[1]) else f"{match[2]}.{match[1]}"
            found.setdefault(current, ENDLESS)
            begun.append(current)
        if begun and (match := END.search(line)):
            found[begun.pop()] = match[1].split()[0]
    return found


PYTEST = re.compile(r"^(\S+\.py::.+?) (?:(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*)?$")


def pytest_outcomes(text):
    found = {}
    for line in text.splitlines():
        if match := PYTEST.match(line + " "):
            found[match[1]] = match[2] or ENDLESS
    return found


TAP = re.compile(r"^(ok|not ok) (\d+)\b(?: - |\s*)(.*)$")


def tap_outcomes(text, prefix="", numbered=False):
    """`numbered`: the names are not the same in every run, or not those of one test alone."""
    found = {}
    for line in text.splitlines():
        if match := TAP.match(line):
            name, _, note = match[3].partition(" # ")
            skipped = match[1] == "ok" and note.upper().startswith("SKIP")
            found[prefix + (match[2] if numbered or not name else name.strip())] = "skip" if skipped else match[1]
    return found


CARGO = re.compile(r"^test (\S+)(?: - should panic)? \.\.\. .*?\b(ok|FAILED|ignored)\b")


def cargo_outcomes(text):
    return {match[1]: match[2] for line in text.splitlines() if (match := CARGO.match(line))}


# ---- runs ---------------------------------------------------------------------------------------------------------------
def end_all(process, folder):
    """Ends the process group, and what left it: their environment tells the folder."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    mark = f"TMPDIR={folder}\0".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read():
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
    process.wait()


def run(suite, part, shim, tests=None):
    """(outcomes, (streams, directions that moved to a ring), the output)"""
    folder = tempfile.mkdtemp(prefix="nn-suites-")
    os.chmod(folder, 0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NOTNETS_", "LD_PRELOAD", "PYTHON", "MAKE", "MFLAGS"))}
    environment.update(HOME=folder, TMPDIR=folder)
    environment.update(suite.environment(folder))
    preload = ["env", "LD_PRELOAD=" + shim, "NOTNETS_AFTER_CALLS=0", "NOTNETS_AFTER_BYTES=0",
               f"NOTNETS_REPORT={folder}/report"] if shim else []
    with open(folder + "/hosts", "w", encoding="utf-8") as file:
        file.write(HOSTS)
    # What a shell starts in the background ignores SIGINT.
    command = ["env", "--default-signal", "unshare", "-n", "-m", "sh", "-ec",
               f'ip link set lo up; mount --bind {folder}/hosts /etc/hosts; exec "$@"', "sh"]
    command += preload + suite.command(part, tests)
    with open(folder + "/output", "w+b") as output:
        process = subprocess.Popen(command, cwd=suite.cwd(folder), env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(suite.seconds(part))
        except subprocess.TimeoutExpired:
            pass
        end_all(process, folder)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    found = suite.outcomes(part, text)
    if found:
        found[STATUS] = str(process.returncode)
    streams = switched = 0
    try:
        with open(folder + "/report", encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    report = json.loads(line)
                except ValueError:  # of one that was killed
                    continue
                streams += report.get("streams", 0)
                switched += report.get("switched_up", 0)
    except OSError:
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return found, (streams, switched), text


def baseline(suite, part, path):
    stamp = suite.stamp() + inspect.getsource(inspect.getmodule(run))
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
        if kept["stamp"] == stamp:
            return kept["outcomes"]
    except (OSError, ValueError, KeyError):
        pass
    found, _, text = run(suite, part, None)
    with open(path.removesuffix(".json") + ".tcp.log", "w", encoding="utf-8") as file:
        file.write(text)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"stamp": stamp, "outcomes": found}, file)
    os.replace(path + ".new", path)
    return found


def judge(suite, part, shim, cache):
    """(verdict, name and reason, detail lines)"""
    stem = os.path.join(cache, part if part == suite.name else f"{suite.name}-{part.replace('/', '-')}")
    label = part if part == suite.name or suite.name == "python" else f"{suite.name}/{part}"
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(baseline, suite, part, stem + ".json")
        if suite.alone:
            concurrent.futures.wait([waiting])
        begun = time.monotonic()
        found, (streams, switched), text = run(suite, part, shim)
        seconds = time.monotonic() - begun
        plain = waiting.result()
    log = stem + ".shim.log"
    with open(log, "w", encoding="utf-8") as file:
        file.write(text)
    if not plain:
        return "skip", f"{label} it runs no test here", []
    differ = {t: (plain.get(t, "not run"), found.get(t, "not run")) for t in sorted(plain.keys() | found.keys())
              if plain.get(t) != found.get(t)}
    waver = {}

    def again(with_shim):
        tests = [t for t in differ if t != STATUS]
        return run(suite, part, with_shim, tests if 0 < len(tests) <= 60 else None)[0]

    if 0 < len(differ) <= 40:
        for _ in range(3):
            ended = again(None)
            for t in [t for t in differ if ended.get(t, "not run") == differ[t][1]]:
                waver[t] = differ.pop(t)
            # The status tells only of the others.
            if set(differ) <= {STATUS} and waver:
                waver.update(differ)
                differ.clear()
            if not differ:
                break
    if differ:  # once more with the shim: is it certain, or now and then?
        ended = again(shim)
        lines = [f"{t}: TCP {a}, shim {b}" + (", but not always" if ended.get(t) == a else "") for t, (a, b) in differ.items()]
        return "not ok", f"{label} {len(differ)} of {len(plain)} tests differ", lines[:40] + [f"see {log}"]
    if endless := [t for t in found if found[t] == ENDLESS and t not in waver]:
        return "not ok", f"{label} {len(endless)} of {len(plain)} tests come to no end", endless[:40] + [f"see {log}"]
    if shim and part in suite.must_switch and not switched:
        return "not ok", f"{label} nothing was switched", []
    lines = [f"wavers on TCP too: {t}: {a} or {b}" for t, (a, b) in waver.items()]
    passed = sum(outcome in PASSED for outcome in found.values())
    if not passed:
        return "skip", f"{label} nothing passes, with the shim or without: see {log}", []
    counts = f"{len(found) - 1} tests, {passed} pass, 0 differ, {streams} streams, {switched} directions switched"
    return "ok", f"{label} {counts}, {seconds:.0f} s", lines


def main(build, wanted):
    """Judges the pairs (suite, part). Environment: SHIM (`none`: without), JOBS. The exit status."""
    shim = os.environ.get("SHIM", os.path.join(build, "libnotnets_shim.so"))
    if subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], stderr=subprocess.DEVNULL, check=False).returncode:
        print("skip suites no network namespaces (needs root)")
        return 77
    if shim != "none" and not os.path.exists(shim):
        print(f"skip suites no {shim}")
        return 77
    shim = None if shim == "none" else os.path.abspath(shim)
    cache = os.path.join(build, "suites", "results")
    os.makedirs(cache, exist_ok=True)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", "3"))) as pool:
        runs = [pool.submit(judge, suite, part, shim, cache) for suite, part in wanted]
        for done in concurrent.futures.as_completed(runs):
            verdict, name, lines = done.result()
            print(verdict, name, flush=True)
            for line in lines:
                print("  " + line, flush=True)
            failed += verdict == "not ok"
    return 1 if failed else 0
