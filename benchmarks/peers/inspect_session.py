"""One session of inspect_ai, as its documentation has it: `eval` of a task with a `react` agent and a `bash` tool.

`python inspect_session.py TURNS SAVED FOLDER` prints one JSON object; it always writes its log. Runs
in a virtual environment of its own.
"""

import json
import resource
import sys
import time

from inspect_ai import Task, eval
from inspect_ai.agent import react
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.tool import bash


def used(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


turns, folder = int(sys.argv[1]), sys.argv[3]
outputs = [
    ModelOutput.for_tool_call("mockllm/model", "bash", {"command": f"seq {n} {n + 29}"}) for n in range(1, turns + 1)
]
outputs.append(ModelOutput.for_tool_call("mockllm/model", "submit", {"answer": "Done."}))
for output in outputs:  # as a vendor's answer says it; else the mock counts tokens itself, with tables from the network
    output.usage = ModelUsage(input_tokens=1000, output_tokens=100, total_tokens=1100)
task = Task(dataset=[Sample(input="Print numbers.")], solver=react(tools=[bash(timeout=120)]), sandbox="local")
model = get_model("mockllm/model", custom_outputs=outputs)
before = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN), time.perf_counter()
(log,) = eval(task, model=model, log_dir=folder, display="none")
after = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN), time.perf_counter()
assert log.status == "success", log.error
assert log.samples
ran = [message for message in log.samples[0].messages if message.role == "tool" and message.error is None]
assert len(ran) >= turns, len(ran)
own, children, wall = (end - begin for begin, end in zip(before, after, strict=True))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"own_s": own, "children_s": children, "wall_s": wall, "peak_mib": peak}))  # noqa: T201
