#!/usr/bin/env python3
"""What the Python package costs, in one run, beside what else shares a state among processes.

    export PYTHONPATH=build/release/bindings/python
    python3 bench/python_bench.py [--rounds 201] [--json FILE]

What is compared takes turns: a short burst of each, in each round, so that what else the machine
does hits all of them; medians of the rounds are printed, and of the rounds' differences. The
others: a Lock of multiprocessing around its SharedMemory; LMDB (python3-lmdb), without its sync; a
file lock (python3-filelock) around a JSON file that is replaced by renaming. Where one of them is
not installed it is left out. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import struct
import sys
import tempfile
import time
from multiprocessing import shared_memory
from typing import Any, Callable, Dict, List, Optional

import epoch
from epoch import _epoch

try:
    import lmdb
except ImportError:
    lmdb = None
try:
    import filelock
except ImportError:
    filelock = None

STATE = bytes(64)
COUNT = struct.Struct("<Q")


def burst_ns(call: Callable[[], Any], times: int) -> float:
    """Of one call, in a loop that costs the same for each."""
    repeat = range(times)
    begun = time.perf_counter_ns()
    for _ in repeat:
        call()
    return (time.perf_counter_ns() - begun) / times


# --- a counter in each of them --------------------------------------------------------------------


class Counter:
    """64 bytes that begin with a number, which processes add to."""

    name = ""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def add(self) -> None:
        raise NotImplementedError

    def add_and_hold(self, held: Any) -> None:
        """Stops in the middle, and says so."""
        raise NotImplementedError

    def value(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


def one_more(state: bytes) -> bytes:
    return COUNT.pack(COUNT.unpack_from(state)[0] + 1) + state[8:]


def hold(held: Any) -> None:
    held.set()
    signal.pause()


class Epoch(Counter):
    name = "epoch, update"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.region = epoch.create(os.path.join("/dev/shm", f"epoch.py-{os.getpid()}-bench"))
        self.pid = os.getpid()
        self.me: Any = self.region.join("bench")
        self.me.commit(STATE)

    def _own(self) -> Any:
        if self.pid != os.getpid():
            self.pid = os.getpid()
            self.me = self.region.join("bench")
        return self.me

    def add(self) -> None:
        self._own().update(lambda state, number: one_more(state))

    def add_and_hold(self, held: Any) -> None:
        self._own().update(lambda state, number: hold(held))

    def value(self) -> int:
        return int(COUNT.unpack_from(self.region.read().state)[0])

    def close(self) -> None:
        self.me.leave()
        epoch.unlink(self.region.path)


class LockAndMemory(Counter):
    name = "multiprocessing Lock + SharedMemory"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.lock = multiprocessing.Lock()
        self.memory = shared_memory.SharedMemory(create=True, size=64)

    def add(self) -> None:
        with self.lock:
            self.memory.buf[:64] = one_more(bytes(self.memory.buf[:64]))

    def add_and_hold(self, held: Any) -> None:
        with self.lock:
            hold(held)

    def value(self) -> int:
        return int(COUNT.unpack_from(self.memory.buf)[0])

    def close(self) -> None:
        self.memory.close()
        self.memory.unlink()


class MemoryAlone(LockAndMemory):
    name = "SharedMemory, no lock"

    def add(self) -> None:
        self.memory.buf[:64] = one_more(bytes(self.memory.buf[:64]))

    def add_and_hold(self, held: Any) -> None:
        hold(held)


class Lmdb(Counter):
    name = "LMDB, no sync"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.pid = 0
        with self._own().begin(write=True) as transaction:
            transaction.put(b"state", STATE)

    def _own(self) -> Any:
        if self.pid != os.getpid():  # an environment is not used across a fork
            self.pid = os.getpid()
            self.environment = lmdb.open(os.path.join(self.folder, "lmdb"), sync=False)
        return self.environment

    def add(self) -> None:
        with self._own().begin(write=True) as transaction:
            transaction.put(b"state", one_more(transaction.get(b"state")))

    def add_and_hold(self, held: Any) -> None:
        with self._own().begin(write=True):
            hold(held)

    def value(self) -> int:
        with self._own().begin() as transaction:
            return int(COUNT.unpack_from(transaction.get(b"state"))[0])

    def close(self) -> None:
        self.environment.close()


class FileLockAndJson(Counter):
    name = "filelock + JSON file"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.path = os.path.join(folder, "state.json")
        self.lock = filelock.FileLock(self.path + ".lock")
        self._write({"count": 0})

    def _read(self) -> Dict[str, int]:
        with open(self.path) as file:
            state: Dict[str, int] = json.load(file)
        return state

    def _write(self, state: Dict[str, int]) -> None:
        with open(f"{self.path}.{os.getpid()}", "w") as file:
            json.dump(state, file)
        os.rename(file.name, self.path)

    def add(self) -> None:
        with self.lock:
            state = self._read()
            state["count"] += 1
            self._write(state)

    def add_and_hold(self, held: Any) -> None:
        with self.lock:
            hold(held)

    def value(self) -> int:
        return self._read()["count"]


def counters() -> List[type[Counter]]:
    found: List[type[Counter]] = [Epoch, LockAndMemory, MemoryAlone]
    if lmdb is not None:
        found.append(Lmdb)
    if filelock is not None:
        found.append(FileLockAndJson)
    return found


# --- what is measured -----------------------------------------------------------------------------


def calls(rounds: int) -> Dict[str, float]:
    """Nanoseconds of one call, by its name."""
    name = f"py-{os.getpid()}-calls"
    large_name = name + "-large"
    me = epoch.create(name, state_bytes=4096).join("bench")
    me.commit(STATE)
    commit_large = epoch.create(large_name, state_bytes=1 << 20).join("bench").commit
    nothing, pin, commit, update = _epoch._nothing, me.pin, me.commit, me.update
    memory = shared_memory.SharedMemory(create=True, size=64)
    lock = multiprocessing.Lock()
    large = bytes(1 << 20)

    def nothing_twice() -> None:
        nothing()
        nothing()

    def pin_and_release() -> None:
        pin().release()

    def read_pinned() -> bytes:
        with pin() as held:
            return bytes(held)

    def read_locked() -> bytes:
        with lock:
            return bytes(memory.buf[:64])

    what: Dict[str, Any] = {
        "two empty calls": (nothing_twice, 1_000),
        "pin, release": (pin_and_release, 1_000),
        "read 64 B, pinned": (read_pinned, 500),
        "read 64 B, Lock + SharedMemory": (read_locked, 500),
        "commit 64 B": (lambda: commit(STATE), 500),
        "update 64 B": (lambda: update(lambda state, number: STATE), 500),
        "commit 1 MiB": (lambda: commit_large(large), 1),
    }
    found: Dict[str, List[float]] = {key: [] for key in what}
    for _ in range(rounds):
        for key, (call, times) in what.items():
            found[key].append(burst_ns(call, times))
    memory.close()
    memory.unlink()
    epoch.unlink(name)
    epoch.unlink(large_name)
    costs = {key: statistics.median(values) for key, values in found.items()}
    empty = zip(found["pin, release"], found["two empty calls"])
    costs["pin, release: above two empty calls"] = statistics.median(
        pinned - nothing for pinned, nothing in empty
    )
    return costs


def add_many(counter: Counter, times: int, go: Any) -> None:
    go.wait()
    for _ in range(times):
        counter.add()
    os._exit(0)  # as the children of a fork do, without taking anything down


def add_together(kind: type[Counter], processes: int, times: int) -> Dict[str, float]:
    """Adds from several processes: how many are lost, and how long one takes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        counter = kind(folder)
        context = multiprocessing.get_context("fork")
        go = context.Event()
        workers = [
            context.Process(target=add_many, args=(counter, times, go)) for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        begun = time.perf_counter_ns()
        go.set()
        for worker in workers:
            worker.join()
        took = time.perf_counter_ns() - begun
        lost = processes * times - counter.value()
        counter.close()
    return {"us": took / (processes * times) / 1000, "lost": lost}


def holder_killed(kind: type[Counter]) -> str:
    """What comes of the others when one is killed in the middle of a change."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        counter = kind(folder)
        context = multiprocessing.get_context("fork")
        held = context.Event()
        holder = context.Process(target=counter.add_and_hold, args=(held,))
        holder.start()
        held.wait()
        holder.kill()
        holder.join()
        go = context.Event()
        go.set()
        next_one = context.Process(target=add_many, args=(counter, 1, go))
        next_one.start()
        next_one.join(5)
        goes_on = next_one.exitcode == 0
        next_one.kill()
        next_one.join()
        said = "goes on" if goes_on else "hangs"
        counter.close()
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--json", metavar="FILE")
    asked = parser.parse_args()

    costs = calls(asked.rounds)
    for what, ns in costs.items():
        print(f"{what:42} {ns:12.0f} ns{'   <= 150' if 'above' in what else ''}")
    print(f"{'updates in one process':42} {1e9 / costs['update 64 B']:12.0f} /s   >= 300000")
    print()
    print(f"{'add one, 64 B':38} {'1 process':>10} {'4 processes':>12} {'lost':>7}  holder killed")
    table: Dict[str, Dict[str, Optional[Any]]] = {}
    for kind in counters():
        times = 2_000 if kind is FileLockAndJson else 10_000
        alone = add_together(kind, 1, times)
        together = add_together(kind, 4, times)
        killed = holder_killed(kind)
        table[kind.name] = {
            "alone_us": alone["us"],
            "together_us": together["us"],
            "lost": together["lost"],
            "holder_killed": killed,
        }
        print(
            f"{kind.name:38} {alone['us']:7.2f} us {together['us']:9.2f} us "
            f"{together['lost'] / (4 * times):7.1%}  {killed}"
        )
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump({"schema": "epoch.bench-python/1", "calls_ns": costs, "add": table}, file)


if __name__ == "__main__":
    sys.exit(main())
