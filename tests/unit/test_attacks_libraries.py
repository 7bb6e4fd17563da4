"""The attack against two public libraries, on one fixed network and 1,000 real images."""

import pytest
import torch
import torch.nn.functional as F

from common.attacks import cross_entropy, logits_of, pgd
from common.data import mnist5k
from common.nets import TappedNet, small_cnn

pytestmark = pytest.mark.slow
EPS, STEP, STEPS = 0.04, 0.005, 20


@pytest.fixture(scope="module")
def attacked():
    """A small network after a few epochs of MNIST, and the 1,000 test images."""
    data = mnist5k(train_size=3500)
    torch.manual_seed(0)
    net = TappedNet(small_cnn(10, width=8), {}, data.mean, data.std)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    loader = data.train_loader(0)
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(batch["x"]).logits, batch["y"]).backward()
            optimizer.step()
    batches = list(data.eval_loader("test"))
    x, y = (torch.cat([batch[key] for batch in batches]).contiguous() for key in ("x", "y"))
    return net.eval(), x, y


class Logits(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return logits_of(self.net(x))


def accuracy(net, x, y):
    with torch.no_grad():
        return float((net(x).logits.argmax(1) == y).float().mean())


@pytest.fixture(scope="module")
def ours(attacked):
    net, x, y = attacked
    run = dict(eps=EPS, step_size=STEP, steps=STEPS, generator=torch.Generator().manual_seed(0))
    found = accuracy(net, pgd(net, x, cross_entropy(y), **run), y)
    assert 0.05 < found < accuracy(net, x, y) - 0.1, "the attack has to decide something"
    return found


def test_within_a_point_of_torchattacks(attacked, ours):
    torchattacks = pytest.importorskip("torchattacks")
    net, x, y = attacked
    torch.manual_seed(0)
    theirs = torchattacks.PGD(Logits(net), eps=EPS, alpha=STEP, steps=STEPS, random_start=True)(x, y)
    assert ours == pytest.approx(accuracy(net, theirs, y), abs=0.01)


def test_within_a_point_of_foolbox(attacked, ours):
    foolbox = pytest.importorskip("foolbox")
    net, x, y = attacked
    torch.manual_seed(0)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)
    target = foolbox.PyTorchModel(Logits(net).eval(), bounds=(0, 1), device="cpu")
    _, theirs, _ = attack(target, x, y, epsilons=EPS)
    assert ours == pytest.approx(accuracy(net, theirs, y), abs=0.01)


def test_l2_within_a_point_of_foolbox(attacked):
    foolbox = pytest.importorskip("foolbox")
    net, x, y = attacked
    run = dict(eps=1.0, step_size=0.15, steps=STEPS, norm="l2", generator=torch.Generator().manual_seed(0))
    found = accuracy(net, pgd(net, x, cross_entropy(y), **run), y)
    torch.manual_seed(0)
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.15, steps=STEPS, random_start=True)
    target = foolbox.PyTorchModel(Logits(net).eval(), bounds=(0, 1), device="cpu")
    _, theirs, _ = attack(target, x, y, epsilons=1.0)
    assert 0.05 < found < accuracy(net, x, y) - 0.1
    assert found == pytest.approx(accuracy(net, theirs, y), abs=0.01)
