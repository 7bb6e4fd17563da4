"""AutoAttack: exact optima of linear networks, resumption after a kill, and refusals."""

import sys

import pytest
import torch
from torch import nn

from common.artifacts import DamagedArtifactError, read_json
from common.core import Outputs
from common.errors import UserError
from common.evaluators import AutoAttack, Evaluation, autoattack
from common.evaluators.robust import interval

pytest.importorskip("pyautoattack")


class Linear(nn.Module):
    """Logits ``W x + b``, as the project's networks return them."""

    def __init__(self, classes=4, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.head = nn.Linear(64, classes)
        self.head.weight.data = torch.randn(classes, 64, generator=generator)
        self.head.bias.data = torch.zeros(classes)

    def forward(self, x):
        return Outputs(self.head(x.flatten(1)))


class Images:
    def __init__(self, x, y, batch=10):
        self.x, self.y, self.batch = x, y, batch

    def eval_loader(self, split):
        for rows in torch.arange(len(self.y)).split(self.batch):
            yield {"x": self.x[rows], "y": self.y[rows]}


def setting(net, count=24, batch=10, folder=None):
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = net(x).logits.argmax(1)
    # A few images that are wrong before any attack.
    y[:2] = (y[:2] + 1) % net.head.out_features
    return x, y, Evaluation(Images(x, y, batch), None, torch.device("cpu"), folder=folder)


def stands(net, x, y, eps):
    """By the closed form: the worst margin to each other class, pixel by pixel inside of ball and box."""
    weights, found = net.head.weight.tolist(), []
    for image, label in zip(x.flatten(1).tolist(), y.tolist(), strict=True):
        worst = []
        for other in range(len(weights)):
            if other == label:
                continue
            margin = 0.0
            for pixel, own, their in zip(image, weights[label], weights[other], strict=True):
                slope = own - their
                margin += min(slope * max(pixel - eps, 0.0), slope * min(pixel + eps, 1.0))
            worst.append(margin)
        found.append(min(worst) > 0)
    return found


@pytest.mark.parametrize("attack", ["apgd-ce", "apgd-t", "fab-t"])
def test_gradient_attacks_turn_what_can_be_turned_in_a_linear_network(attack):
    net = Linear()
    x, y, _ = setting(net)
    turned = autoattack.broken_by(attack, net, x[2:], y[2:], eps=0.05)
    possible = [not s for s in stands(net, x[2:], y[2:], 0.05)]
    assert 3 < sum(possible) < 20
    # Cross-entropy aims at all classes together and may miss one; the targeted attacks may not.
    missed = [p and not t for p, t in zip(possible, turned.tolist(), strict=True)]
    assert not any(t and not p for p, t in zip(possible, turned.tolist(), strict=True))
    assert sum(missed) <= (1 if attack == "apgd-ce" else 0)


def test_square_never_finds_what_does_not_exist():
    net = Linear()
    x, y, _ = setting(net)
    turned = autoattack.broken_by("square", net, x[2:], y[2:], eps=0.05, queries=100)
    possible = [not s for s in stands(net, x[2:], y[2:], 0.05)]
    assert not any(t and not p for p, t in zip(possible, turned.tolist(), strict=True))
    assert turned.any()


def test_evaluator_counts_and_leaves_everything_as_it_was(tmp_path):
    net = Linear()
    x, y, ctx = setting(net, folder=tmp_path)
    state, trace = torch.random.get_rng_state(), sys.gettrace()
    found = AutoAttack(0.05, "proxy", images=10)(net, ctx.data, ctx)
    assert torch.equal(state, torch.random.get_rng_state()) and sys.gettrace() is trace
    assert net.head.weight.grad is None and net.head.weight.requires_grad
    robust = sum(stands(net, x[:10], y[:10], 0.05)[2:])
    assert found["test/apgd_proxy"] == robust / 10
    assert (found["test/apgd_proxy_low"], found["test/apgd_proxy_high"]) == interval(robust, 10)
    assert found["test/apgd_proxy_images"] == 10


@pytest.mark.slow
def test_standard_protocol_equals_the_closed_form():
    net = Linear()
    x, y, ctx = setting(net)
    standard = AutoAttack(0.05)(net, ctx.data, ctx)
    assert set(standard) == {f"test/autoattack{s}" for s in ("", "_low", "_high", "_images", "_square")}
    assert standard["test/autoattack"] == sum(stands(net, x, y, 0.05)[2:]) / 24
    assert standard["test/autoattack_square"] == 0


def noisy(attack, model, x, y, *, eps, norm, seed):
    """Stands for an attack: what it turns depends on the draws, on their order and on who is in the batch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(x), generator=generator) + x.mean((1, 2, 3)) > 1.1


def interrupted_after(monkeypatch, count, real):
    """Lets ``count`` attacks finish and kills the next; returns the list of all that were begun."""
    begun = []

    def counting(attack, *rest, **options):
        if len(begun) == count:
            raise KeyboardInterrupt
        begun.append(attack)
        return real(attack, *rest, **options)

    monkeypatch.setattr(autoattack, "broken_by", counting)
    return begun


def kill_and_go_on(tmp_path, monkeypatch, attack, finished, count):
    net = Linear()
    evaluator = AutoAttack(0.05, "proxy", batch=7)
    _, _, ctx = setting(net, count)
    with monkeypatch.context() as patch:
        begun = interrupted_after(patch, 10**6, attack)
        expected = evaluator(net, ctx.data, ctx)
        total = len(begun)
    _, _, ctx = setting(net, count, folder=tmp_path)
    with monkeypatch.context() as patch:
        interrupted_after(patch, finished, attack)
        with pytest.raises(KeyboardInterrupt):
            evaluator(net, ctx.data, ctx)
    (file,) = tmp_path.iterdir()
    assert len(read_json(file)["done"]) == finished
    with monkeypatch.context() as patch:
        begun = interrupted_after(patch, 10**6, attack)
        for _ in range(2):
            assert evaluator(net, ctx.data, ctx) == expected
            assert len(begun) == total - finished
    assert 0 < expected["test/apgd_proxy"] < 1 - 2 / count


@pytest.mark.parametrize("finished", range(1, 10))
def test_killed_evaluation_goes_on_and_finds_the_same(tmp_path, monkeypatch, finished):
    kill_and_go_on(tmp_path, monkeypatch, noisy, finished, 24)


@pytest.mark.slow
@pytest.mark.parametrize("finished", [1, 3])
def test_killed_evaluation_with_the_real_attacks(tmp_path, monkeypatch, finished):
    kill_and_go_on(tmp_path, monkeypatch, autoattack.broken_by, finished, 14)


def test_state_belongs_to_weights_network_and_settings_and_may_be_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(autoattack, "broken_by", noisy)
    net = Linear()
    _, _, ctx = setting(net, 12, folder=tmp_path)
    expected = AutoAttack(0.05, "proxy")(net, ctx.data, ctx)
    (file,) = tmp_path.iterdir()
    AutoAttack(0.06, "proxy")(net, ctx.data, ctx)
    other = Linear(seed=3)
    AutoAttack(0.05, "proxy")(other, ctx.data, setting(other, 12, folder=tmp_path)[2])
    assert len(list(tmp_path.iterdir())) == 3
    file.write_text(file.read_text().replace("0", "1", 1))
    with pytest.raises(DamagedArtifactError):
        read_json(file)
    with pytest.warns(UserWarning, match="is damaged.*the attacks start again"):
        assert AutoAttack(0.05, "proxy")(net, ctx.data, ctx) == expected


class Answer(Linear):
    """A network that answers as a test wants it to."""

    def __init__(self, answer, classes=4):
        super().__init__(classes)
        self.answer = answer

    def forward(self, x):
        return Outputs(self.answer(super().forward(x).logits))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Linear(3), "at least 4 classes, but the network has 3"),
        (Answer(lambda z: z.softmax(1)), "returns probabilities"),
        (Answer(lambda z: z + torch.rand_like(z)), "two answers to the same images"),
    ],
    ids=["classes", "probabilities", "random"],
)
def test_networks_that_cannot_be_judged(net, message):
    _, _, ctx = setting(net, 8)
    with pytest.raises(UserError, match=message):
        AutoAttack(0.05, "proxy")(net, ctx.data, ctx)


def test_pixels_outside_of_the_box_are_refused():
    net = Linear()
    x, _, _ = setting(net, 8)
    ctx = Evaluation(Images(255 * x, net(255 * x).logits.argmax(1)), None, torch.device("cpu"))
    with pytest.raises(UserError, match="pixels from"):
        AutoAttack(0.05, "proxy")(net, ctx.data, ctx)


def test_wrong_options_and_a_missing_package_are_one_sentence(monkeypatch):
    with pytest.raises(UserError, match="for 8 of 255 levels write"):
        AutoAttack(8)
    with pytest.raises(UserError, match="choose standard or proxy"):
        AutoAttack(0.1, "plus")
    with pytest.raises(UserError, match="at least one image"):
        AutoAttack(0.1, images=0)
    with pytest.raises(UserError, match="has no attack"):
        autoattack.broken_by("fgsm", Linear(), torch.zeros(1, 1, 8, 8), torch.zeros(1).long(), eps=0.1)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(UserError, match=r"pip install 'distillery\[robust\]'"):
        AutoAttack(0.1)
