"""What a command costs before and besides the training that it is meant to do."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Amount, Options, Result

ROOT = Path(__file__).resolve().parents[2]
_SWEEP = 5


def children() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(words: Sequence[str]) -> float:
    """CPU seconds of a Python command, run in an empty folder.

    Raises:
        RuntimeError: it failed.
    """
    before = children()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr.strip()[-300:]}")
    return children() - before


def run(options: Options) -> Result:
    """Help, composing, a smoke run, and what one run more costs inside a process."""
    result = Result("startup", "CPU seconds of whole commands")
    script = str(ROOT / "run.py")
    seeds = ",".join(str(seed) for seed in range(_SWEEP))
    smoke = [script, "paper=kd", "scale=smoke"]
    commands = {
        "run.py --help": ([script, "--help"], None),
        "run.py paper=kd --cfg job": ([script, "paper=kd", "--cfg", "job"], 0.6),
        "run.py paper=kd scale=smoke": (smoke, 5.0),
        "python -c 'import torch'": (["-c", "import torch"], None),
        "python -c 'import lightning'": (["-c", "import lightning"], None),
        "sweep": ([smoke[0], "-m", *smoke[1:], f"seed={seeds}"], None),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for i in range(options.pairs(5, 1) + 1):
        for name, (words, _) in commands.items():
            seconds = command(words)
            # The first round reads files that later ones find in memory.
            if i > 0:
                times[name].append(seconds)
    sweep = times.pop("sweep")
    for name, values in times.items():
        result.amounts.append(Amount(name, "CPU s", values, commands[name][1]))
    more = [(a - b) / (_SWEEP - 1) for a, b in zip(sweep, times["run.py paper=kd scale=smoke"], strict=True)]
    result.amounts.append(Amount("one smoke run more in a sweep (teacher and five arms)", "CPU s", more))
    return result
