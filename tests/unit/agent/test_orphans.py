"""What plugins leave behind: which processes are ended, and which are left to others. In an agent-like process."""

from __future__ import annotations

import json

from tests.support.process import PYTHON, ROOT, run

# It starts the program of a plugin, and lets others come to it, of which one has a child that comes only later.
PROGRAM = """
import asyncio, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from dso.agent import launch
from dso.agent.orphans import Orphans

def leave(*, depth=1):
    told, tell = os.pipe()
    if not os.fork():
        if os.fork():
            os._exit(0)
        os.setsid()
        pids = [os.getpid()]
        if depth > 1 and (below := os.fork()):
            pids.append(below)
        if depth == 1 or below:
            os.write(tell, json.dumps(pids).encode())
        os.closerange(0, 100)
        time.sleep(1000)
    os.wait()
    os.close(tell)
    with open(told) as said:
        return json.load(said)

def alive(pids):
    return [os.path.exists(f"/proc/{pid}") for pid in pids]

async def main():
    orphans = Orphans()
    orphans.adopt()
    orphans.adopt()
    program = await launch.launch("/bin/cat", {}, None)
    left = leave(depth=2)
    await orphans.end(os.getuid() + 1)
    found = {"others": alive(left)}
    await orphans.end(os.getuid())
    found["ended"] = alive(left)
    found["program"] = alive([program.pid])
    second = leave()
    os.kill(program.pid, 9)
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    os.kill(second[0], 9)
    found["code"] = launch.wait(program)
    await orphans.end()
    async with asyncio.timeout(20):
        while any(alive(second)):  # a zombie, until SIGCHLD is seen
            await asyncio.sleep(0.01)
    print(json.dumps(found))

asyncio.run(main())
"""


def test_those_of_the_user_are_ended_with_what_they_have_started_and_no_program_is_taken_from_who_watches_it() -> None:
    found = json.loads(run([PYTHON, "-c", PROGRAM, ROOT]).out)
    assert found == {
        "others": [True, True],
        "ended": [False, False],
        "program": [True],
        "code": -9,
    }
