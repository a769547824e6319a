"""What the tests share: regions and folders that go away with the test, and child processes."""

import itertools
import os
import subprocess
import sys
import tempfile
import textwrap

import pytest

import epoch

_numbers = itertools.count(1)

# Long enough for any machine, however busy; what waits for so long hangs. Seconds, as kLong of
# tests/support/time_limits.h.
LONG = 900.0
# A deadline that has to pass. Nothing depends on how soon.
SOON = 0.01


@pytest.fixture
def name():
    """A region's name. The region is removed, if there is one."""
    made = f"py-{os.getpid()}-{next(_numbers)}"
    yield made
    epoch.unlink(made, missing_ok=True)


@pytest.fixture
def region(name):
    return epoch.create(name, state_bytes=4096, participants=16, versions=16)


@pytest.fixture
def folder():
    """A directory on a real disk, as a journal needs it."""
    with tempfile.TemporaryDirectory(prefix="epoch-python-") as made:
        yield made


@pytest.fixture
def durable(name, folder):
    journal = os.path.join(folder, "journal")
    return epoch.create(name, state_bytes=4096, participants=16, versions=16, journal=journal)


class Child:
    """A Python program in a process of its own, which is told things, and says things, in lines."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self):
        return self.process.pid

    def hear(self):
        line = self.process.stdout.readline()
        assert line != "", self.process.stderr.read()
        return line.rstrip("\n")

    def say(self, line="go"):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self):
        """Its exit status, and what it said on standard error."""
        _, errors = self.process.communicate()
        return self.process.returncode, errors

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def child():
    """Starts children; those that are left are killed."""
    started = []

    def start(program, *arguments):
        started.append(Child(program, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()
