"""Our attack beside those of torchattacks and foolbox, on one network and at equal settings."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from common.attacks import cross_entropy, pgd

pytestmark = pytest.mark.slow
# The measured accuracies are of the same 1000 images, so only the random starts differ.
EPS, STEP, STEPS, IMAGES = 0.15, 0.02, 20, 1000


@pytest.fixture(scope="module")
def setting():
    data = load_digits()
    x, y = torch.tensor(data.images / 16, dtype=torch.float32)[:, None], torch.tensor(data.target)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(15):
        for rows in torch.randperm(len(x) - IMAGES).split(64):
            images = pgd(net, x[rows], cross_entropy(y[rows]), eps=EPS, step_size=0.06, steps=4)
            optimizer.zero_grad()
            F.cross_entropy(net(images), y[rows]).backward()
            optimizer.step()
    return net.eval(), x[-IMAGES:], y[-IMAGES:]


def left(net, x, y):
    with torch.no_grad():
        return float((net(x).argmax(1) == y).double().mean())


def ours(net, x, y, norm="linf", eps=EPS, step=STEP):
    return left(net, pgd(net, x, cross_entropy(y), eps=eps, step_size=step, steps=STEPS, norm=norm), y)


def test_linf_agrees_with_torchattacks(setting):
    torchattacks = pytest.importorskip("torchattacks")
    net, x, y = setting
    other = torchattacks.PGD(net, eps=EPS, alpha=STEP, steps=STEPS, random_start=True)
    found = ours(net, x, y)
    assert 0.2 < found < left(net, x, y) - 0.1
    assert found == pytest.approx(left(net, other(x, y), y), abs=0.01)


def test_linf_agrees_with_foolbox(setting):
    foolbox = pytest.importorskip("foolbox")
    net, x, y = setting
    target = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS, random_start=True)
    assert ours(net, x, y) == pytest.approx(left(net, attack(target, x, y, epsilons=EPS)[1], y), abs=0.01)


def test_l2_agrees_with_foolbox(setting):
    foolbox = pytest.importorskip("foolbox")
    net, x, y = setting
    target = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.15, steps=STEPS, random_start=True)
    other = left(net, attack(target, x, y, epsilons=1.0)[1], y)
    assert ours(net, x, y, "l2", 1.0, 0.15) == pytest.approx(other, abs=0.01)
