"""Adversarial training step by step: passes counted, weights perturbed, statistics and resumed runs exact."""

import copy
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn

from common.attacks import PGD, WeightPerturbation, logits_of
from common.core import Context
from common.core.distiller import Blocks, Distiller
from common.core.fit import TrainerSettings, fit
from common.errors import UserError
from common.methods import ARD, MART, PGDAT, TRADES, AdaAD, CrossEntropy
from common.nets import TappedNet, small_cnn
from common.teachers import Frozen, Recorded

ATTACK = PGD(eps=0.1, step_size=0.05, steps=3)
AWP = WeightPerturbation(gamma=0.02)
EPOCHS, SAMPLES, BATCH = 3, 24, 10


class Loader:
    """The same random images in each epoch, in their own order."""

    sampler = None

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.rand(SAMPLES, 1, 8, 8, generator=generator)
        self.y = torch.randint(0, 10, (SAMPLES,), generator=generator)

    def __len__(self):
        return -(-SAMPLES // BATCH)

    def __iter__(self):
        for index in torch.arange(SAMPLES).split(BATCH):
            yield {"x": self.x[index], "y": self.y[index], "index": index}


class KillAt(L.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def net(width=4, seed=0, dropout=0.0):
    torch.manual_seed(seed)
    inner = small_cnn(10, width=width)
    if dropout:
        inner.head = nn.Sequential(nn.Dropout(dropout), inner.head)
    return TappedNet(inner, {}, [0.5], [0.25])


def train(folder, method, kill=None, record=None, student=None):
    student, frozen = student or net(dropout=0.3), Frozen(net(8, 1), "t")
    teacher = Recorded(frozen, record, "t") if record else frozen
    loader = Loader()
    context = Context(5, max_epochs=EPOCHS, steps_per_epoch=len(loader), num_train=SAMPLES, num_classes=10)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    source = teacher if type(method).uses_teacher else None
    module = Distiller(student, method, source, optimizer, None, context)
    module.dry_run(next(iter(loader)))
    settings = TrainerSettings(EPOCHS, accelerator="cpu", threads=1, checkpoint_seconds=0)
    callbacks = [KillAt(kill)] if kill is not None else []
    fit(module, Blocks(loader, None), settings, folder, "student", "key", callbacks=callbacks)
    return module


def same(first, second, drop=""):
    first, second = first.state_dict(), second.state_dict()
    names = [name for name in first if not drop or drop not in name]
    return all(torch.equal(first[name], second[name]) for name in names)


METHODS = {
    "at": lambda: PGDAT(ATTACK),
    "at_awp": lambda: PGDAT(ATTACK, awp=AWP),
    "trades": lambda: TRADES(ATTACK),
    "mart": lambda: MART(ATTACK),
    "ard": lambda: ARD(ATTACK),
    "ard_mixed": lambda: ARD(ATTACK, alpha=0.5),
    "adaad": lambda: AdaAD(ATTACK),
}
# Passes of student with a backward one, and of the teacher besides the clean one, for an image in a step.
PASSES = {
    "at": (3 + 1, 0),
    "at_awp": (3 + 2, 0),
    "trades": (3 + 2, 0),
    "mart": (3 + 2, 0),
    "ard": (3 + 1, 0),
    "ard_mixed": (3 + 2, 0),
    "adaad": (3 + 1, 3 + 1),
}


class Counting(nn.Module):
    """Counts images that go forward, and those whose output receives a gradient."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.forward_images, self.backward_images = inner, 0, 0

    def forward(self, x):
        out = self.inner(x)
        self.forward_images += len(x)
        if out.requires_grad:
            out.register_hook(lambda g: setattr(self, "backward_images", self.backward_images + len(x)))
        return out


@pytest.mark.parametrize("name", METHODS)
def test_passes_are_those_of_a_counting_network(tmp_path, name):
    counting = Counting(small_cnn(10, width=4))
    method = METHODS[name]()
    train(tmp_path, method, student=TappedNet(counting))
    shown = EPOCHS * SAMPLES
    with_gradient, of_teacher = PASSES[name]
    assert method.count_gradient_evaluations == counting.backward_images == with_gradient * shown
    # The dry run shows one batch.
    assert counting.forward_images == (with_gradient + 1) * shown + BATCH
    assert method.count_forward_evaluations == shown
    assert method.count_teacher_evaluations == of_teacher * shown


@pytest.mark.parametrize("name", METHODS)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, name):
    whole = train(tmp_path / "a", METHODS[name]())
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "b", METHODS[name](), kill=2)
    assert same(whole, train(tmp_path / "b", METHODS[name]()))


@pytest.mark.parametrize("host", [PGDAT, TRADES, MART, ARD])
def test_perturbation_of_size_zero_is_the_host_bit_for_bit(tmp_path, host):
    plain = train(tmp_path / "a", host(ATTACK))
    zero = train(tmp_path / "b", host(ATTACK, awp=WeightPerturbation(gamma=0.0)))
    assert same(plain, zero, drop="count_")
    assert zero.method.count_gradient_evaluations > plain.method.count_gradient_evaluations


def test_warm_up_is_the_host(tmp_path):
    plain = train(tmp_path / "a", PGDAT(ATTACK))
    assert same(
        plain, train(tmp_path / "b", PGDAT(ATTACK, awp=WeightPerturbation(gamma=0.1, warmup_epochs=EPOCHS)))
    )
    assert not same(plain, train(tmp_path / "c", PGDAT(ATTACK, awp=AWP)), drop="count_")


def test_weight_perturbation_equals_a_proxy_network_that_takes_a_step():
    model, x, y = net().train().double(), torch.rand(6, 1, 8, 8).double(), torch.arange(6)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def objective(call):
        return {"ce": nn.functional.cross_entropy(call(x), y)}

    terms = AWP(model, objective)
    terms["ce"].backward()

    proxy = copy.deepcopy(model)
    proxy.load_state_dict(before)
    proxy.zero_grad()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.37)
    (-nn.functional.cross_entropy(proxy(x).logits, y)).backward()
    optimizer.step()
    moved = copy.deepcopy(model)
    moved.load_state_dict(before)
    moved.zero_grad()
    changed = []
    with torch.no_grad():
        for (name, w), p in zip(moved.named_parameters(), proxy.parameters(), strict=True):
            if w.ndim > 1 and "weight" in name:
                changed.append(name)
                step = p - w
                w += AWP.gamma * w.norm() / step.norm() * step
    assert changed == ["net.body.stage1.0.weight", "net.body.stage2.1.weight", "net.head.weight"]
    loss = nn.functional.cross_entropy(moved(x).logits, y)
    loss.backward()
    torch.testing.assert_close(terms["ce"], loss)
    for (name, p), q in zip(model.named_parameters(), moved.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=1e-9)
        assert torch.equal(p, before[name])
    # Statistics are those of one pass at the moved weights; the proxy's pass leaves none.
    for name, value in moved.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], value)
    assert loss > nn.functional.cross_entropy(net().train().double()(x).logits, y)


def test_statistics_move_with_the_outer_passes_alone():
    seen = []

    class Watched(PGDAT):
        def outer(self, call, x, x_adv, batch, teacher):
            seen.append((self._nets["student"].training, x_adv))
            return super().outer(call, x, x_adv, batch, teacher)

    student, method, loader = net().train(), Watched(ATTACK), Loader()
    batch, ctx = next(iter(loader)), Context(0)
    reference = copy.deepcopy(student)
    batch = method.prepare_batch(batch, {"student": student}, ctx)
    clean = student(batch["x"])
    method.loss(batch, clean, None, ctx)
    training, x_adv = seen[0]
    assert training and student.training
    reference(x_adv)
    assert same(student, reference)


def test_recorded_labels_of_the_teacher_are_bit_equal_and_spare_its_passes(tmp_path):
    plain = train(tmp_path / "a", ARD(ATTACK))
    train(tmp_path / "b", ARD(ATTACK), record=tmp_path / "record")
    calls, original = [], Frozen.outputs
    try:
        Frozen.outputs = lambda *a: calls.append(1) or original(*a)
        reading = train(tmp_path / "c", ARD(ATTACK), record=tmp_path / "record")
    finally:
        Frozen.outputs = original
    assert same(plain, reading) and not calls


def test_adaad_attack_raises_the_disagreement_and_leaves_the_teacher_alone():
    student, teacher, batch = net(), Frozen(net(8, 1)).net, next(iter(Loader()))
    method = AdaAD(PGD(eps=0.2, step_size=0.05, steps=10))
    ctx = Context(0)
    method.prepare_batch(batch, {"student": student, "teacher": teacher}, ctx)
    inner = method.inner(batch, None, None)
    x_adv = method.attack(method.attacked(), batch["x"], inner, ctx.generator)

    def apart(x):
        p, q = (logits_of(m.eval()(x)).softmax(1) for m in (teacher, student))
        return (p * (p / q).log()).sum(1)

    assert (apart(x_adv) > apart(batch["x"])).all()
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_wrong_options_are_refused():
    with pytest.raises(UserError, match=r"attack=3 .*common\.attacks\.PGD"):
        PGDAT(3)
    with pytest.raises(UserError, match=r"awp=0\.01 .*WeightPerturbation"):
        PGDAT(ATTACK, awp=0.01)
    with pytest.raises(UserError, match=r"awp\.gamma=2"):
        WeightPerturbation(gamma=2)


def test_methods_without_a_teacher_say_so():
    assert not any(m.uses_teacher for m in (PGDAT, TRADES, MART, CrossEntropy))
    assert ARD.uses_teacher and AdaAD.uses_teacher
