"""Makes objects and lets go of them in an order, or leaves them alive, and ends. By test_exit.py.

Reads orders from standard input, a line of JSON each, and plays each in a forked child that ends as
a Python program does: with its interpreter taken down. Answers with the child's exit status, and
what it said on standard error.
"""

import gc
import json
import os
import sys
import threading

import epoch


class Kept:
    """What is left alive at the end."""


def make(name):
    things = {}
    region = things["region"] = epoch.open(name)
    me = things["me"] = region.join("me", voter=True)
    me.commit(b"state")
    things["pin"] = me.pin()
    things["second pin"] = me.pin()
    things["view"] = memoryview(things["pin"])
    things["part"] = things["view"][1:3]
    things["draft"] = me.draft(8)
    things["draft view"] = memoryview(things["draft"])
    things["listener"] = me.listen()
    things["document"] = me.json()
    things["changes"] = me.changes()

    @me.validator
    def check(proposal):
        return epoch.accept() if things is not None else epoch.reject()

    things["validator"] = check

    # In the thread of a daemon, waiting, when the interpreter ends; and one that votes.
    other = things["other"] = region.join("other", voter=True)
    other.set_validator(lambda proposal: epoch.later())
    waits = threading.Event()

    def wait():
        waits.set()
        other.await_(10**6)

    things["thread"] = threading.Thread(target=wait, daemon=True)
    things["thread"].start()
    waits.wait()
    return things


def play(order):
    things = make(order["region"])
    for what in order["drop"]:
        if what == "collect":
            gc.collect()
        else:
            things.pop(what, None)
    if order["left"] == "globals":
        globals().update({f"kept_{i}": thing for i, thing in enumerate(things.values())})
    elif order["left"] == "cycle":
        kept = Kept()
        kept.itself, kept.things = kept, things
    elif order["left"] == "module":
        sys.modules["kept"] = things
    else:
        threading.kept = things  # lives longer than this module


for line in sys.stdin:
    order = json.loads(line)
    with open(os.memfd_create("said"), "w+b") as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 2)
            play(order)
            sys.exit(0)
        status = os.waitpid(pid, 0)[1]
        said.seek(0)
        print(json.dumps([status, said.read().decode()]), flush=True)
