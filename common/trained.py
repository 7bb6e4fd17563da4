"""The student of a finished run, from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import nodes, records
from common.artifacts import load_tensors
from common.errors import UserError
from common.nets.taps import TappedNet


def finished_record(run: Path) -> dict[str, Any]:
    """The record of a finished run.

    Raises:
        UserError: there is none.
    """
    record = records.read(run / "record.json")
    if record is None or record["status"] != "finished":
        raise UserError(f"{run} holds no finished run; pass the folder that has a record.json")
    return record


def trained_student(run: Path, data: Any, name: str = "student") -> TappedNet:
    """The student of a finished run in eval mode.

    Args:
        run: folder with ``record.json`` and ``<name>.safetensors``.
        data: what the run was trained on, or data of the same shape.
        name: the training.

    Raises:
        UserError: no finished run there, its weights are damaged, or they do not fit the data.
    """
    record = finished_record(run)
    path = run / f"{name}.safetensors"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in run.glob("*.safetensors"))) or "none"
        raise UserError(f"{path} does not exist; trainings of this run: {known}")
    tensors, _ = load_tensors(path, f"{record['key']}/{name}")
    net = nodes.build(record["config"]["student"], "student", **data.spec)
    mean, std = getattr(net, "mean", None) or data.mean, getattr(net, "std", None) or data.std
    student = TappedNet(net, {}, mean, std)
    weights = {k.removeprefix("student."): v for k, v in tensors.items() if k.startswith("student.")}
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the student in {run} does not fit {getattr(data, 'description', 'the data')}; "
            "it was trained on images of another size or for other classes"
        ) from error
    return student.eval()
