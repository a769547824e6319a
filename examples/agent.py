"""Agents that share one plan: each claims a task, does it, and says that it is done. Any of them
may be killed or stopped at any moment; what it had claimed is claimed anew.

    agent.py REGION NAME      works until the plan is done
    agent.py REGION demo      makes a plan, starts three agents, kills one of them in the middle

PYTHONPATH=build/release/bindings/python python3 examples/agent.py plan demo
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any, Dict, Optional

import epoch

Plan = Dict[str, Any]


def claim(me: epoch.Participant) -> Optional[int]:
    """Takes a task that nobody who lives has; None: there is none just now."""
    mine = [me.slot, me.generation]
    living = [[one.slot, one.generation] for one in me.region.participants()
              if one.condition != "dead"]
    claimed: Optional[int] = None

    def take(plan: Plan) -> Any:
        nonlocal claimed
        claimed = None  # it is called again if another one was faster
        for number, task in enumerate(plan["tasks"]):
            if not task["done"] and task["owner"] not in living:
                task["owner"], claimed = mine, number
                return None
        return epoch.NO_CHANGE

    me.json().update(take)
    return claimed


def finish(me: epoch.Participant, number: int, result: int) -> None:
    def mark(plan: Plan) -> Any:
        task = plan["tasks"][number]
        if task["owner"] != [me.slot, me.generation]:
            return epoch.NO_CHANGE  # it was stopped for so long that another one took it over
        task.update(done=True, result=result, by=me.name)
        return None

    me.json().update(mark)


def work(me: epoch.Participant) -> None:
    while True:
        number = claim(me)
        if number is not None:
            finish(me, number, number**2)
            print(f"{me.name}: task {number}", flush=True)
        elif all(task["done"] for task in me.json().value["tasks"]):
            return
        else:
            # Until something is committed; or somebody died, which commits nothing.
            next(me.changes(timeout=0.2), None)


def agent(name: str, who: str) -> None:
    me = epoch.open(name, create=False).join(who)
    while True:
        try:
            with me:
                work(me)
            return
        except epoch.Expelled:
            me.rejoin()  # it stood still for longer than others would wait


def demo(name: str) -> None:
    epoch.unlink(name, missing_ok=True)
    region = epoch.create(name, state_bytes=1 << 16)
    tasks = [{"owner": None, "done": False} for _ in range(60)]
    with region.join("demo") as me:
        me.json().set({"tasks": tasks})
        me.park()  # nobody waits for it

    agents = [
        subprocess.Popen([sys.executable, __file__, name, who], stdout=subprocess.PIPE, text=True)
        for who in ("ann", "bob", "cyd")
    ]
    try:
        first = agents[0]
        assert first.stdout is not None
        for _ in range(5):
            first.stdout.readline()
        first.send_signal(signal.SIGKILL)  # in the middle of something
        for one in agents[1:]:
            one.communicate()
        ended = [one.returncode for one in agents[1:]]
        plan = region.read()
    finally:
        for one in agents:
            one.kill()
            one.wait()
        epoch.unlink(name)
    done = json.loads(plan.state)["tasks"]
    assert all(task["done"] and task["result"] == number**2 for number, task in enumerate(done))
    print(f"epoch {plan.epoch}: {len(done)} tasks done, agents ended with {ended}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    demo(sys.argv[1]) if sys.argv[2] == "demo" else agent(sys.argv[1], sys.argv[2])
