"""One session of mini-swe-agent, as its documentation's Python bindings have it: `DefaultAgent(model, environment)`.

`python mini_session.py TURNS SAVED FOLDER` prints one JSON object. Runs in a virtual environment of its own.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ |= {"MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": sys.argv[3]}

from minisweagent.agents.default import DefaultAgent  # it reads the environment while it is imported
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.test_models import DeterministicModel, make_output


def used(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


turns, saved, folder = int(sys.argv[1]), sys.argv[2] == "saved", Path(sys.argv[3])
outputs = [make_output(f"Turn {n}.", [{"command": f"seq {n} {n + 29}"}], cost=0.0) for n in range(1, turns + 1)]
outputs.append(make_output("Done.", [{"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}], cost=0.0))
environment = LocalEnvironment(cwd=str(folder))
model = DeterministicModel(outputs=outputs, cost_per_call=0.0)
path = folder / "session.traj.json" if saved else None
templates = {"system_template": "You are a helpful assistant.", "instance_template": "Your task: {{task}}"}
before = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN), time.perf_counter()
agent = DefaultAgent(model, environment, output_path=path, **templates)
agent.run("Print numbers.")
after = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN), time.perf_counter()
assert agent.n_calls == turns + 1
own, children, wall = (end - begin for begin, end in zip(before, after, strict=True))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"own_s": own, "children_s": children, "wall_s": wall, "peak_mib": peak}))  # noqa: T201
