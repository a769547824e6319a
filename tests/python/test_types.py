"""The package and the examples under mypy --strict; the stub against the extension itself."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("mypy")

SOURCE = os.environ["EPOCH_SOURCE"]
CACHE = os.path.join(os.environ.get("EPOCH_BINARY", "."), "mypy")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "MYPYPATH": os.path.join(SOURCE, "bindings", "python")},
        cwd=os.environ.get("EPOCH_BINARY", "."),
        capture_output=True,
        text=True,
    )


def test_the_package_and_the_examples_are_typed():
    checked = run(
        "mypy",
        "--strict",
        "--cache-dir",
        CACHE,
        os.path.join(SOURCE, "bindings", "python", "epoch"),
        os.path.join(SOURCE, "examples", "agent.py"),
        os.path.join(SOURCE, "examples", "service.py"),
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_stub_is_what_the_extension_has():
    checked = run("mypy.stubtest", "epoch._epoch")
    assert checked.returncode == 0, checked.stdout + checked.stderr
