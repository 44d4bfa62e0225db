"""The program that calls tasks, of tasks.py, as a process of its own.

    task_client.py MODULE CALLER

It makes a few calls, so that all are awake, and says `ready`; then each line that it reads is a load, as JSON: the name
of a method of `task_systems.Caller`, and its arguments. It prints what it measured as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

WARM_UP = 200
AT_A_TIME = 100


def main() -> None:
    module, name = sys.argv[1:]
    caller = getattr(importlib.import_module(f"task_systems.{module}"), name)()
    caller.flight(WARM_UP, AT_A_TIME)
    print("ready", flush=True)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        begin, cpu = time.monotonic(), time.process_time()
        samples = getattr(caller, method)(*arguments)
        measured = {"wall_s": time.monotonic() - begin, "cpu_s": time.process_time() - cpu, "samples": samples or []}
        print(json.dumps(measured), flush=True)
    caller.close()
    os._exit(0)  # some clients leave threads behind


if __name__ == "__main__":
    main()
