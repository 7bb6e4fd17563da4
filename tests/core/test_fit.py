"""Training goes on where it was killed, and ends with the same bits."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

from common.core import Context
from common.core.distiller import Blocks, Distiller
from common.core.fit import TrainerSettings, fit
from common.core.seeding import derive
from common.core.selection import BestValidation
from common.methods import KD, CrossEntropy
from common.nets import TappedNet, small_cnn
from common.teachers import Frozen, Recorded
from papers.ps_kd.method import PSKD
from papers.vkd.method import VKD

EPOCHS, SAMPLES, BATCH = 5, 96, 32


class Sampler:
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch


class Loader:
    """Random images in an order of (7, epoch)."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.rand(SAMPLES, 1, 8, 8, generator=generator)
        self.y = torch.randint(0, 10, (SAMPLES,), generator=generator)
        self.sampler = Sampler()

    def __len__(self):
        return SAMPLES // BATCH

    def __iter__(self):
        order = torch.randperm(
            SAMPLES, generator=torch.Generator().manual_seed(derive(7, self.sampler.epoch))
        )
        for index in order.split(BATCH):
            yield {"x": self.x[index], "y": self.y[index], "index": index}


class KillAt(L.Callback):
    def __init__(self, epoch, step=None):
        self.epoch, self.step = epoch, step

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def net(width, seed, dropout=False):
    torch.manual_seed(seed)
    inner = small_cnn(10, width=width)
    if dropout:
        inner.head = torch.nn.Sequential(torch.nn.Dropout(0.5), inner.head)
    return TappedNet(inner, {}, [0.5], [0.25])


def train(
    folder: Path, method=None, *, kill=None, record=None, seconds=0.0, key="key", best=False, loggers=list
):
    method = method or KD()
    student = net(4, 0, dropout=True)
    student.set_taps(dict(method.taps))
    frozen = Frozen(net(16, 1), "t")
    frozen.net.set_taps(dict(method.taps))
    teacher = Recorded(frozen, record, "views") if record else frozen
    loader = Loader()
    module = Distiller(
        student,
        method,
        teacher if type(method).uses_teacher else None,
        partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=EPOCHS),
        Context(3, max_epochs=EPOCHS, steps_per_epoch=len(loader), num_train=SAMPLES, num_classes=10),
    )
    torch.manual_seed(5)
    module.dry_run(next(iter(loader)))
    callbacks = [BestValidation(Loader(), method)] if best else []
    if kill is not None:
        callbacks.append(KillAt(kill))
    fit(
        module,
        Blocks(loader, None),
        TrainerSettings(EPOCHS, checkpoint_seconds=seconds),
        folder,
        "student",
        key,
        callbacks=callbacks,
        loggers=loggers,
    )
    return module


def assert_same(first, second):
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert first.history == second.history


@pytest.mark.parametrize("make", [KD, CrossEntropy, PSKD, VKD], ids=lambda m: m.__name__)
@pytest.mark.parametrize("kill", [1, 4])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, make, kill):
    whole = train(tmp_path / "whole", make())
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", make(), kill=kill)
    assert (tmp_path / "killed/student.ckpt").exists()
    assert_same(whole, train(tmp_path / "killed", make()))
    assert not (tmp_path / "killed/student.ckpt").exists()


def test_best_validation_epoch_survives_a_kill(tmp_path):
    whole = train(tmp_path / "whole", best=True)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", best=True, kill=3)
    resumed = train(tmp_path / "killed", best=True)
    assert_same(whole, resumed)
    scores = [row["val/top1"] for row in whole.history]
    best = max(range(EPOCHS), key=lambda epoch: (scores[epoch], epoch))
    loader = Loader()
    with torch.no_grad():
        right = (resumed.student.eval()(loader.x).logits.argmax(1) == loader.y).sum()
    assert float(right) / SAMPLES == pytest.approx(scores[best])


def test_recorded_teacher_is_bit_equal_and_spares_the_forward_passes(tmp_path):
    plain = train(tmp_path / "plain", VKD())
    first = train(tmp_path / "first", VKD(), record=tmp_path / "views")
    assert_same(plain, first)
    calls = []
    original = Frozen.outputs
    try:
        Frozen.outputs = lambda *a: calls.append(1) or original(*a)
        second = train(tmp_path / "second", VKD(), record=tmp_path / "views")
    finally:
        Frozen.outputs = original
    assert_same(plain, second)
    assert len(calls) == 1, "only the dry batch may reach the teacher"


def test_damaged_and_foreign_records_of_the_teacher_are_made_again(tmp_path):
    plain = train(tmp_path / "plain", record=tmp_path / "views")
    files = sorted((tmp_path / "views").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-7])
    files[1].write_bytes(files[2].read_bytes())
    with pytest.warns(UserWarning) as caught:
        again = train(tmp_path / "again", record=tmp_path / "views")
    text = " ".join(str(w.message) for w in caught)
    assert files[0].name in text and "belongs to views/2" in text
    assert_same(plain, again)


def test_finished_training_is_loaded_not_repeated(tmp_path):
    first = train(tmp_path)
    before = (tmp_path / "student.safetensors").stat().st_mtime_ns
    assert_same(first, train(tmp_path))
    assert (tmp_path / "student.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "empty"])
def test_damaged_finished_file_is_named_and_redone(tmp_path, damage):
    first = train(tmp_path)
    path = tmp_path / "student.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[-5] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        train(tmp_path / "other", key="other")
        path.write_bytes((tmp_path / "other/student.safetensors").read_bytes())
    with pytest.warns(UserWarning, match=r"student\.safetensors"):
        again = train(tmp_path)
    assert_same(first, again)


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign"])
def test_damaged_checkpoint_is_named_and_training_starts_again(tmp_path, damage):
    whole = train(tmp_path / "whole")
    with pytest.raises(RuntimeError):
        train(tmp_path / "killed", kill=3)
    path = tmp_path / "killed/student.ckpt"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-100])
    elif damage == "flip":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    else:
        with pytest.raises(RuntimeError):
            train(tmp_path / "other", kill=3, key="other")
        path.write_bytes((tmp_path / "other/student.ckpt").read_bytes())
    with pytest.warns(UserWarning, match=r"student\.ckpt"):
        assert_same(whole, train(tmp_path / "killed"))


def test_teacher_stays_in_eval_mode_without_gradient_and_out_of_the_checkpoint(tmp_path):
    with pytest.raises(RuntimeError):
        train(tmp_path, kill=2)
    state = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert not [name for name in state["state_dict"] if "teacher" in name]
    frozen = Frozen(net(16, 1))
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    frozen.train()
    outputs = frozen.outputs(KD(), {"x": torch.rand(4, 1, 8, 8)}, Context(0))
    assert not frozen.net.training and not outputs.logits.requires_grad
    assert all(torch.equal(before[name], value) for name, value in frozen.state_dict().items())


def test_parameters_of_the_method_are_trained_and_saved(tmp_path):
    module = train(tmp_path, VKD())
    groups = module.optimizers(use_pl_optimizer=False) if module._trainer else None
    names = [name for name, _ in module.method.named_parameters()]
    assert names
    fresh = VKD()
    torch.manual_seed(5)
    assert groups is None or sum(len(g["params"]) for g in groups.param_groups) == len(
        list(module.parameters())
    )
    from common.artifacts import load_tensors

    saved, _ = load_tensors(tmp_path / "student.safetensors", "key/student")
    assert all(f"method.{name}" in saved for name in names)
    assert not list(fresh.parameters())


def test_loss_that_is_not_finite_stops_the_run(tmp_path):
    class Broken(CrossEntropy):
        def loss(self, batch, student, teacher, ctx):
            return {"ce": student.logits.sum() * float("nan")}

    with pytest.raises(FloatingPointError, match="train/loss/ce is nan in epoch 0"):
        train(tmp_path, Broken())
