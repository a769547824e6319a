"""A service around one asyncio loop: it votes on each new rate limit, adopts what was committed,
ends gracefully on SIGTERM, and after `kill -9` or a reboot begins again where the region, or its
journal, stands.

    service.py run REGION JOURNAL NAME     until SIGTERM or SIGINT
    service.py set REGION RATE             proposes a rate to all that run
    service.py demo DIRECTORY              starts three, changes rates, kills one, checks them

PYTHONPATH=build/release/bindings/python python3 examples/service.py demo /var/tmp
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Callable, Dict, List, Tuple

import epoch


def judge(proposal: epoch.Proposal) -> epoch.Answer:
    """In the listener's thread, at any time: it looks at the proposal and at nothing else."""
    if proposal.state.isdigit() and 1 <= int(proposal.state) <= 1000:
        return epoch.accept()
    return epoch.reject("a rate is a number from 1 to 1000")


async def adopt(me: epoch.Participant) -> None:
    async for change in me.achanges(since=0):
        with me.pin() as pin:
            print(f"{me.name}: rate {bytes(pin).decode()}", flush=True)


async def serve(region: epoch.Region, name: str) -> None:
    me = region.join(name, voter=True)
    me.set_validator(judge)
    adopting = asyncio.current_task()
    assert adopting is not None
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, adopting.cancel)
    print(f"{name}: ready", flush=True)
    while True:
        try:
            with me, me.listen():
                await adopt(me)
        except epoch.Expelled:
            me.rejoin()  # it stood still for longer than others would wait
        except asyncio.CancelledError:
            print(f"{name}: ended", flush=True)
            return


def run(region: str, journal: str, name: str) -> None:
    asyncio.run(serve(epoch.open(region, journal=journal, state_bytes=4096), name))


def set_rate(region: str, rate: str) -> None:
    with epoch.open(region, create=False).join("set") as me:
        print(me.commit(rate.encode(), agree=True, timeout=60))


class Service:
    def __init__(self, region: str, journal: str, name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, __file__, "run", region, journal, name],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.expect("ready")

    def expect(self, said: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip()
        assert line == f"{self.name}: {said}", line


def demo(directory: str) -> None:
    own = tempfile.mkdtemp(prefix="rates-", dir=directory)
    region, journal = os.path.join(own, "region"), os.path.join(own, "journal")
    services: List[Service] = []
    try:
        for name in ("ann", "bob", "cyd"):
            services.append(Service(region, journal, name))
        play(region, journal, services)
    finally:
        for one in services:
            one.process.kill()
            one.process.wait()
        shutil.rmtree(own)


def play(region: str, journal: str, services: List[Service]) -> None:
    set_rate(region, "100")
    for one in services:
        one.expect("rate 100")
    try:
        set_rate(region, "0")
    except epoch.Rejected as refused:
        print(refused.culprits[0].reason)

    services[0].process.kill()
    services[0].process.wait()
    set_rate(region, "200")  # nobody waits for the dead
    for one in services[1:]:
        one.expect("rate 200")
    services[0] = Service(region, journal, "ann")
    services[0].expect("rate 200")

    for one in services:
        one.process.terminate()
        one.expect("ended")
        assert one.process.wait() == 0
    # All are gone: the journal has it.
    epoch.unlink(region)
    state = epoch.open(region, journal=journal, state_bytes=4096).read()
    print(f"epoch {state.epoch}: rate {state.state.decode()}")


if __name__ == "__main__":
    commands: Dict[Tuple[str, int], Callable[..., None]] = {
        ("run", 5): run,
        ("set", 4): set_rate,
        ("demo", 3): demo,
    }
    command = commands.get((sys.argv[1] if len(sys.argv) > 1 else "", len(sys.argv)))
    if command is None:
        sys.exit(__doc__)
    command(*sys.argv[2:])
