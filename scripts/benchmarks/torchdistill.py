"""A step with data, against torchdistill's own box, loss and data loader on the same images."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, RandomSampler

from benchmarks.alternating import Alternating
from benchmarks.measure import Options, Ratio, Result, UnavailableError
from common.core.distiller import Blocks, Distiller
from common.core.fit import TrainerSettings, fit
from common.core.method import Batch
from common.core.outputs import Context
from common.data import VisionData, synthetic
from common.methods import KD
from common.nets import TappedNet, resnet20, resnet56
from common.teachers import Frozen

CLASSES, BATCH, TEMPERATURE, IMAGES = 10, 64, 4.0, 640
OPTIMIZER = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
_WARM_UP = 3


def images() -> VisionData:
    """Made-up 32x32 colour images with the field's random crops and mirror images."""
    return synthetic(
        num_classes=CLASSES,
        train_size=IMAGES,
        val_size=0,
        test_size=CLASSES,
        image_size=32,
        channels=3,
        batch_size=BATCH,
        views={"x": {"name": "crop_flip", "pad": 4}},
    )


class PILImages(Dataset):
    """The training images as torchvision's data sets hold them: one PIL image at a time, then transforms."""

    def __init__(self, data: VisionData) -> None:
        from torchvision import transforms as T

        self.arrays = data.splits["train"].x.numpy()
        self.labels = data.splits["train"].y.tolist()
        steps = [T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.ToTensor()]
        self.transform = T.Compose([*steps, T.Normalize(data.mean, data.std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def make_box(teacher: nn.Module, student: nn.Module, data: VisionData) -> Any:
    """A distillation box of torchdistill's with its loss of classic distillation."""
    from torchdistill.core.distillation import get_distillation_box

    where = {f"{side}_module_path": "." for side in ("student", "teacher")}
    where |= {f"{side}_module_io": "output" for side in ("student", "teacher")}
    loss = {"key": "KDLoss", "kwargs": {**where, "temperature": TEMPERATURE, "alpha": 0.1}}
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": BATCH, "num_workers": 0},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": dict(OPTIMIZER)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
        },
    }
    device = torch.device("cpu")
    # Its box leaves the teacher's mode to the caller.
    return get_distillation_box(
        teacher.eval(), student, {"train": PILImages(data)}, config, device, None, False, 1.0
    )


def steps_of(box: Any) -> Iterator[None]:
    """Endless steps, as torchdistill's examples write their loop, without logging."""
    while True:
        box.pre_epoch_process(epoch=0)
        for batch, targets, extra in box.train_data_loader:
            box.pre_forward_process()
            loss = box.forward_process(batch, targets, extra)
            box.post_forward_process(loss)
            yield
        box.post_epoch_process()


def compare(teacher: nn.Module, student: nn.Module, pairs: int) -> Alternating:
    """Our step and torchdistill's, in turn; the networks given are torchdistill's."""
    data = images()
    theirs = steps_of(make_box(teacher, student, data))
    epochs = math.ceil((pairs + _WARM_UP) * BATCH / IMAGES)
    loader = Alternating(data.train_loader(0), lambda batch: next(theirs))
    norm = {"mean": data.mean, "std": data.std}
    frozen = Frozen(TappedNet(resnet56(CLASSES), {}, **norm).to(memory_format=torch.channels_last))
    context = Context(0, 0, 0, epochs, len(loader), data.num_train, CLASSES)
    sgd = partial(torch.optim.SGD, **OPTIMIZER)
    ours = Distiller(
        TappedNet(resnet20(CLASSES), {}, **norm),
        KD(TEMPERATURE),
        frozen,
        sgd,
        None,
        context,
        channels_last=True,
    )
    settings = TrainerSettings(max_epochs=epochs, accelerator="cpu", checkpoint_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        fit(ours, Blocks(loader, None), settings, Path(folder), "student", "bench")
    return loader


def check_same_loss(data: VisionData) -> None:
    """Makes sure that both sides minimise the same number.

    Raises:
        AssertionError: they do not.
    """
    teacher, student = resnet20(CLASSES).eval(), resnet20(CLASSES).eval()
    box = make_box(teacher, student, data)
    x, y = torch.rand(BATCH, 3, 32, 32), torch.randint(0, CLASSES, (BATCH,))
    theirs = box.forward_process(x, y, {})
    batch: Batch = {"x": x, "y": y}
    tapped = [TappedNet(net) for net in (student, teacher)]
    with torch.no_grad():
        terms = KD(TEMPERATURE).loss(batch, tapped[0](x), tapped[1](x), Context(0))
    torch.testing.assert_close(theirs.detach(), sum(terms.values()))


def run(options: Options) -> Result:
    """Torchdistill as it comes, and with our networks in our memory format, which leaves loop and data."""
    try:
        # Silenced before its loggers make handlers of their own.
        logging.getLogger("torchdistill").setLevel(logging.ERROR)
        import torchdistill.core.distillation  # noqa: F401
        from torchdistill.models.classification import resnet
    except ImportError as error:
        raise UnavailableError(
            f"{error.name or 'torchdistill'} is not installed; pip install torchdistill to compare with it"
        ) from error
    for name in list(logging.Logger.manager.loggerDict):
        if name.startswith("torchdistill"):
            logging.getLogger(name).setLevel(logging.ERROR)
    check_same_loss(images())
    result = Result("torchdistill", f"resnet56 -> resnet20, batch {BATCH}, crops and mirror images")
    arms = (
        ("torchdistill / ours", resnet.resnet56(CLASSES), resnet.resnet20(CLASSES), 1.15),
        (
            "torchdistill with our channels-last networks / ours",
            *(net(CLASSES).to(memory_format=torch.channels_last) for net in (resnet56, resnet20)),
            None,
        ),
    )
    for label, teacher, student, target in arms:
        clock = compare(teacher, student, options.pairs(24, 5))
        theirs, ours = ([1e3 * t for t in times[_WARM_UP:]] for times in (clock.other, clock.ours))
        result.ratios.append(Ratio(label, "ms a step", theirs, ours, target))
    return result
