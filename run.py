"""Distillery runs, checks and compares papers on distillation.

python run.py paper=<name> [scale=smoke|small|paper] [seed=0] [arm=all|<name>]
              [data=<name>] [teacher=<name>] [student=<name>] [evaluators=<name>]
              [logger=csv|tensorboard|wandb|none] [force=false]
              [paths.runs=runs] [paths.zoo=zoo] [paths.data=data] [any.key=value]

Sweeps:             python run.py -m paper=kd,pld seed=0,1,2,3,4
Every paper:        python run.py -m 'paper=glob(*)' scale=smoke
In parallel:        add hydra/launcher=joblib
The configuration:  python run.py paper=kd --cfg job
Hydra's own flags:  python run.py --hydra-help

Exit status: 0 all arms finished, 1 an arm failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import os
import sys
import warnings

# Hydra would print its own multi-line report and leave with status 1; errors are explained below instead.
os.environ["HYDRA_FULL_ERROR"] = "1"

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from common.config import choices, explain, register, with_overrides
from common.errors import UserError

# What went wrong in the jobs of this process: exit statuses with their messages.
_problems: list[tuple[int, str]] = []


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def run(config: DictConfig) -> float | None:
    """Runs a comparison; returns the recipe's objective, averaged over its arms, for sweepers."""
    from common.runner import run_composed

    warnings.showwarning = _one_line
    try:
        config = with_overrides(config, HydraConfig.get().overrides.task)
        records = run_composed(config)
    except UserError as error:
        return _problem(2, str(error))
    failed = [record["key"] for record in records if record["status"] == "failed"]
    if failed:
        return _problem(1, f"failed: {', '.join(failed)}")
    values = [record["metrics"].get(config.paper.objective) for record in records]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _problem(status: int, message: str) -> float:
    # A job of a parallel launcher lives in another process and can only raise.
    if os.environ["DISTILLERY_MAIN"] != str(os.getpid()):
        raise UserError(message)
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    _problems.append((status, message))
    return float("nan")


def main() -> int:
    """Exit status: 0 all arms finished, 1 an arm failed, 2 wrong usage or configuration."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(
            __doc__
            + "\n"
            + "\n".join(f"{group + ':':11} {', '.join(names)}" for group, names in choices().items())
        )
        return 0
    # Hydra's parser wants its flags before the overrides; people write them anywhere.
    for flag in ("-m", "--multirun"):
        if flag in sys.argv[1:]:
            sys.argv.remove(flag)
            sys.argv.insert(1, flag)
    os.environ["DISTILLERY_MAIN"] = str(os.getpid())
    register()
    try:
        run()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        message = str(error) if isinstance(error, UserError) else explain(error, sys.argv[1:])
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        return 1 if message.startswith("failed: ") else 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return max((status for status, _ in _problems), default=0)


def _one_line(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
