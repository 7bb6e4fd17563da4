"""A trained student as a file that other programs read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from common.artifacts import write_atomic
from common.errors import UserError
from common.nets.taps import TappedNet
from common.plan import load_data
from common.trained import finished_record, trained_student

_TOLERANCE = 1e-4


class Classifier(nn.Module):
    """Images [B, C, H, W] in [0, 1] -> logits [B, classes]."""

    def __init__(self, tapped: TappedNet) -> None:
        super().__init__()
        self.tapped = tapped

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.tapped(x).logits


def load_student(run: Path, name: str = "student") -> tuple[TappedNet, Tensor]:
    """The student of a finished run in eval mode, and four test images [4, C, H, W].

    Raises:
        UserError: no finished run there, or its weights are damaged.
    """
    config = finished_record(run)["config"]
    data = load_data(config["data"], Path(config["paths"]["data"]))
    student = trained_student(run, data, name)
    images = next(iter(data.eval_loader("test")))["x"][:4].contiguous()
    return student, images


@torch.no_grad()
def export_student(run: Path, name: str, kind: str, out: Path) -> float:
    """Writes the student and returns the largest difference between its logits and the reloaded file's.

    Raises:
        UserError: nothing to export, a missing package, or outputs that do not agree.
    """
    tapped, images = load_student(run, name)
    model = Classifier(tapped).eval()
    expected = model(images)
    if kind == "state_dict":
        write_atomic(out, lambda path: torch.save(tapped.net.state_dict(), path))
        tapped.net.load_state_dict(torch.load(out, weights_only=True))
        actual = model(images)
    elif kind == "torch_export":
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(model, (images,), dynamic_shapes={"x": {0: batch}})
        write_atomic(out, lambda path: torch.export.save(program, path.open("wb")))
        actual = torch.export.load(out).module()(images)
    else:
        actual = _onnx(model, images, out)
    worst = float((actual - expected).abs().max())
    if not worst <= _TOLERANCE:
        raise UserError(f"{out} does not agree with the student: a logit differs by {worst:.2e}")
    return worst


def _onnx(model: nn.Module, images: Tensor, out: Path) -> Tensor:
    try:
        import onnxscript  # noqa: F401
        from onnx.reference import ReferenceEvaluator
    except ModuleNotFoundError as error:
        raise UserError(f"--to onnx needs the package {error.name}: pip install onnx onnxscript") from error
    program = torch.onnx.export(
        model,
        (images,),
        input_names=["x"],
        output_names=["logits"],
        dynamo=True,
        verbose=False,
        dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1)}},
    )
    write_atomic(out, lambda path: program.save(path))
    return torch.from_numpy(ReferenceEvaluator(str(out)).run(None, {"x": images.numpy()})[0])
