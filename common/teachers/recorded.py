"""The teacher sees a view once: what one arm recorded of it serves the other arms of the seed, exactly.

A view is a function of (seed, epoch, index) and so is the make-up of a batch, hence all arms of a seed show the teacher
the very same tensors. The first arm computes and records, epoch by epoch; the others read float32 values that are
bit-equal to what they would have computed.
"""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from common.artifacts import DamagedArtifactError, load_tensors, save_tensors
from common.core.method import Batch, Method
from common.core.outputs import Context, Outputs
from common.teachers.frozen import Frozen


class Recorded:
    """A frozen teacher in front of a folder with one file an epoch.

    Args:
        teacher: computes what is not recorded yet.
        folder: where the epochs lie; one folder per (teacher, data, seed, taps).
        key: names the same thing; files of another key are refused and made anew.
        whole: a batch with every training sample as every epoch shows it, for data that never change; one record,
            made of it in one forward pass, then serves all epochs. None records epoch by epoch.
    """

    def __init__(self, teacher: Frozen, folder: Path, key: str, whole: Batch | None = None) -> None:
        self.teacher = teacher
        self.net: nn.Module = teacher.net
        self._folder = folder
        self._key = key
        self._whole = whole
        self._rows: dict[str, Tensor] | None = None
        self._reading = False

    def to(self, device: torch.device) -> Recorded:
        """Moves the network."""
        self.teacher.to(device)
        return self

    def _name(self, epoch: int) -> int:
        return epoch if self._whole is None else 0

    def _path(self, epoch: int) -> Path:
        return self._folder / f"epoch-{self._name(epoch):05d}.safetensors"

    def begin_epoch(self, ctx: Context) -> None:
        """Opens the epoch's record, or starts one."""
        if self._whole is not None and self._reading:
            return
        self._rows, self._reading = None, False
        path = self._path(ctx.epoch)
        if not path.exists():
            return
        try:
            self._rows, _ = load_tensors(path, f"{self._key}/{self._name(ctx.epoch)}")
            self._reading = True
            # What is in use is not the least recently used.
            os.utime(self._folder)
        except DamagedArtifactError as error:
            warnings.warn(f"{error}; the teacher's outputs of this epoch are computed again", stacklevel=2)
            path.unlink(missing_ok=True)

    def outputs(self, method: Method, batch: Batch, ctx: Context) -> Outputs:
        """Recorded values where there are any, else a forward pass that is recorded."""
        index = batch["index"]
        if self._reading:
            # Rows are float32 on the CPU; only the batch's rows travel to the student's device.
            rows = {name: values[index.cpu()].to(index.device) for name, values in self._rows.items()}
            return Outputs(rows.pop("logits"), rows)
        if self._whole is not None:
            self._record_whole(method, ctx)
            return self.outputs(method, batch, ctx)
        outputs = self.teacher.outputs(method, batch, ctx)
        self._record(index.cpu(), {"logits": outputs.logits, **outputs.features}, ctx)
        return outputs

    def _record(self, index: Tensor, values: dict[str, Tensor], ctx: Context) -> None:
        if self._rows is None:
            self._rows = {
                k: torch.zeros((ctx.num_train, *v.shape[1:]), dtype=v.dtype) for k, v in values.items()
            }
        for name, value in values.items():
            self._rows[name][index] = value.cpu()

    def _record_whole(self, method: Method, ctx: Context) -> None:
        outputs = self.teacher.outputs(method, self._whole, ctx)
        rows = {"logits": outputs.logits, **outputs.features}
        self._rows = {name: value.cpu().contiguous() for name, value in rows.items()}
        self._save(ctx)
        self._reading = True

    def end_epoch(self, ctx: Context) -> None:
        """Writes the record. Samples that the epoch left out stay zero: no other arm of the seed meets them either."""
        if self._whole is not None:
            return
        if not self._reading and self._rows is not None:
            self._save(ctx)
        self._rows = None

    def _save(self, ctx: Context) -> None:
        # A power cut costs a forward pass at most, so waiting for the disk each epoch is not worth it.
        key = f"{self._key}/{self._name(ctx.epoch)}"
        save_tensors(self._path(ctx.epoch), self._rows, key, durable=False)


def make_room(folder: Path, limit_bytes: float) -> None:
    """Removes whole records, least recently used first, until ``folder`` holds at most ``limit_bytes``."""
    if not folder.is_dir():
        return
    sizes = {entry: sum(f.stat().st_size for f in entry.glob("*.safetensors")) for entry in folder.iterdir()}
    total = sum(sizes.values())
    for entry in sorted(sizes, key=lambda entry: entry.stat().st_mtime):
        if total <= limit_bytes:
            return
        shutil.rmtree(entry, ignore_errors=True)
        total -= sizes[entry]
