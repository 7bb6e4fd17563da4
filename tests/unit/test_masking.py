"""Gradient masking: each check on networks built to fail or pass it, and the evaluator on honest and masked ones."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common import masking_marks
from common.attacks import check_target, cross_entropy, pgd
from common.core import Outputs
from common.errors import UserError
from common.evaluators import AutoAttack, Evaluation, GradientMasking, autoattack, masking
from common.evaluators import masking_checks as checks
from common.evaluators.masking_checks import Attacked
from tests.unit.masking_digits import EPS, digit_images


class Wrapped(nn.Module):
    """A network behind a change of its input and before one of its logits."""

    def __init__(self, net, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x):
        return Outputs(self.after(self.net(self.before(x))))


@pytest.fixture(scope="module")
def digits():
    return digit_images()


def train(digits, adversarial, seed=0):
    x, y = digits[0][:1200], digits[1][:1200]
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(16):
        for rows in torch.randperm(len(x)).split(128):
            images = x[rows]
            if adversarial:
                images = pgd(net, images, cross_entropy(y[rows]), eps=EPS, step_size=0.075, steps=4)
            optimizer.zero_grad()
            F.cross_entropy(net(images), y[rows]).backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def honest(digits):
    return train(digits, adversarial=True)


@pytest.fixture(scope="module")
def surrogate(digits):
    return train(digits, adversarial=True, seed=1)


@pytest.fixture(scope="module")
def natural(digits):
    return train(digits, adversarial=False)


@pytest.fixture(scope="module")
def masked(natural):
    """What a defence may do to a network without making it robust."""

    def thermometer(x):
        # Steep steps: the gradient is there, but vanishes between the thresholds.
        return sum(torch.sigmoid(2000 * (x - (k - 0.5) / 6)) for k in range(1, 7)) / 6

    return {
        # Trained at temperature 100 and deployed at 1, as defensive distillation does (arXiv 1511.04508).
        "distilled": Wrapped(natural, after=lambda z: 100 * z),
        "quantised": Wrapped(natural, before=lambda x: (4 * x).round() / 4),
        "thermometer": Wrapped(natural, before=thermometer),
        "cut": Wrapped(natural, before=torch.Tensor.detach),
    }


def attacked(net, digits, count=200, steps=20, eps=EPS):
    return Attacked(net, digits[0][1200 : 1200 + count], digits[1][1200 : 1200 + count], eps, steps=steps)


def test_b_unbounded(digits, honest, masked):
    assert checks.b_unbounded(attacked(honest, digits)).measured["b_accuracy"] == 0
    assert checks.b_unbounded(attacked(honest, digits)).passed
    assert not checks.b_unbounded(attacked(masked["quantised"], digits)).passed


def test_d_square_finds_what_gradients_do_not(digits, honest, masked):
    pytest.importorskip("pyautoattack")
    assert checks.d_square(attacked(honest, digits, 60), queries=100).passed
    check = checks.d_square(attacked(masked["quantised"], digits, 60), queries=100)
    assert not check.passed and check.measured["d_found"] > 0.2


def test_e_zero_gradient_counts(digits, honest, masked, natural):
    assert checks.e_zero_gradient(attacked(honest, digits)).measured["e_zero"] == 0
    assert checks.e_zero_gradient(attacked(masked["quantised"], digits)).measured["e_zero"] == 1
    assert checks.e_zero_gradient(attacked(masked["cut"], digits)).measured["e_zero"] == 1
    # The softmax of float32 is one-hot where the scaled margin is beyond the range of exp, 104.
    x, y = digits[0][1200:1400], digits[1][1200:1400]
    with torch.no_grad():
        z = 100 * natural(x)
    margins = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -math.inf).amax(1)
    check = checks.e_zero_gradient(attacked(masked["distilled"], digits))
    assert check.measured["e_zero"] == pytest.approx(float((margins > 104).double().mean()), abs=0.02)
    assert not check.passed


def standing(net, attack):
    return net.right(net.x) & ~autoattack.broken_by(attack, net.model, net.x, net.y, eps=EPS).cpu()


def test_f_autoattack(digits, honest, masked):
    pytest.importorskip("pyautoattack")
    net = attacked(honest, digits, 40)
    assert checks.f_autoattack(net, standing(net, "apgd-ce")).passed
    net = attacked(masked["distilled"], digits, 40)
    check = checks.f_autoattack(net, standing(net, "apgd-t"))
    assert not check.passed and check.measured["f_excess"] > 0.5
    # By the definition of the two sides, whatever the network.
    nothing = checks.f_autoattack(net, net.right(net.x) & False)
    assert nothing.measured["f_accuracy"] == 0 and nothing.measured["f_excess"] == nothing.measured["f_pgd"]


def test_f_takes_what_an_autoattack_evaluator_of_the_same_round_found(digits, honest, monkeypatch, tmp_path):
    pytest.importorskip("pyautoattack")
    model, ctx = Wrapped(honest), Evaluation(Data(digits), None, torch.device("cpu"), folder=tmp_path)
    proxy = AutoAttack(EPS, "proxy", images=24)(model, ctx.data, ctx)
    monkeypatch.setattr(autoattack, "broken_by", lambda *_, **__: pytest.fail("attacked twice"))
    found = GradientMasking(EPS, images=24, checks="f")(model, ctx.data, ctx)
    assert found["masking/f_accuracy"] == proxy["test/apgd_proxy"]
    with pytest.raises(pytest.fail.Exception):
        GradientMasking(EPS, images=25, checks="f")(model, ctx.data, ctx)


def test_f_is_not_run_with_three_classes(digits):
    pytest.importorskip("pyautoattack")
    torch.manual_seed(0)
    three = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    assert measure(three, (digits[0], digits[1] % 3), checks="f")["masking/run"] == 0


def test_h_transfer(digits, honest, masked, surrogate):
    assert checks.h_transfer(attacked(honest, digits), surrogate).passed
    check = checks.h_transfer(attacked(masked["quantised"], digits), surrogate)
    assert not check.passed and check.measured["h_excess"] > 0.1


def test_two_classes_are_attacked_without_the_ratio_of_differences(digits):
    torch.manual_seed(0)
    net = Attacked(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), digits[0][:50], digits[1][:50] % 2, EPS)
    assert set(checks.g_losses(net).measured) == {"g_ce", "g_norm", "g_norm_excess"}


class Data:
    def __init__(self, digits, batch=64):
        self.digits, self.batch = digits, batch

    def eval_loader(self, split):
        for rows in torch.arange(1200, len(self.digits[1])).split(self.batch):
            yield {"x": self.digits[0][rows], "y": self.digits[1][rows]}


def evaluation(digits, teacher=None):
    return Evaluation(Data(digits), teacher, torch.device("cpu"))


def measure(net, digits, teacher=None, **options):
    ctx = evaluation(digits, teacher)
    return GradientMasking(EPS, images=200, steps=20, **options)(net, ctx.data, ctx)


def test_evaluator_passes_an_honest_network(digits, honest):
    found = measure(Wrapped(honest), digits, checks="abceg")
    assert found["masking/passed"] == 1 and found["masking/run"] == 5 and found["masking/images"] == 200
    assert found["masking/a_pgd20"] > 0.3, "robust, else the test shows nothing"
    assert masking_marks.failed([found]) == []
    verdicts = [n for n in found if n.removeprefix("masking/") in masking_marks.CHECKS.values()]
    assert len(verdicts) == 5 and {found[n] for n in verdicts} == {1.0}


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("distilled", {"b_unbounded", "e_zero_gradient", "g_losses"}),
        ("quantised", {"b_unbounded", "e_zero_gradient"}),
        ("cut", {"e_zero_gradient"}),
        ("thermometer", {"b_unbounded"}),
    ],
)
def test_evaluator_catches_masked_networks(digits, masked, name, least):
    found = measure(masked[name], digits, checks="abceg")
    assert found["masking/passed"] < 1
    assert least <= set(masking_marks.failed([found]))


def test_random_network_is_refused(digits, natural):
    noisy = Wrapped(natural, before=lambda x: x + 0.1 * torch.randn_like(x))
    with pytest.raises(UserError, match="two answers to the same images"):
        measure(noisy, digits, checks="ab")
    with pytest.raises(UserError, match="two answers to the same images"):
        check_target(noisy, digits[0][:4])


@pytest.mark.slow
def test_all_eight_checks_together(digits, honest, masked, surrogate):
    pytest.importorskip("pyautoattack")
    found = measure(Wrapped(honest), digits, surrogate=surrogate, queries=500)
    assert found["masking/run"] == 8 and found["masking/passed"] == 1
    for net in masked.values():
        found = measure(net, digits, surrogate=surrogate, queries=500)
        assert found["masking/run"] == (1 if net is masked["cut"] else 8)
        assert {"b_unbounded", "e_zero_gradient"} & set(masking_marks.failed([found]))


def test_transfer_needs_a_robust_surrogate_and_is_not_run_without(digits, honest, natural, surrogate):
    model, teacher = Wrapped(honest), Wrapped(surrogate)
    assert "masking/h_transfer" in measure(model, digits, teacher, checks="h")
    found = measure(model, digits, None, checks="bh")
    assert "masking/h_transfer" not in found and found["masking/run"] == 1
    for other, floor in ((Wrapped(natural), 0.4), (model, 0.0)):
        found = measure(model, digits, other, checks="h", surrogate_floor=floor)
        assert found == {"masking/run": 0, "masking/images": 200}
    assert masking_marks.failed([found]) == []


def test_options_are_checked_in_one_sentence():
    for options, message in (
        ({"checks": "abz"}, "out of abcdefgh"),
        ({"checks": ""}, "out of abcdefgh"),
        ({"tolerances": {"q": 1}}, "out of abcdefgh"),
        ({"autoattack": "plus"}, "choose standard or proxy"),
        ({"images": 0}, "at least one image"),
    ):
        with pytest.raises(UserError, match=message):
            GradientMasking(0.1, **options)


def test_tolerances_replace_those_of_the_checks(digits, masked):
    strict = measure(masked["distilled"], digits, checks="g")
    lenient = measure(masked["distilled"], digits, checks="g", tolerances={"g": 0.99})
    assert (strict["masking/passed"], lenient["masking/passed"]) == (0, 1)


def test_surrogate_of_a_finished_run_is_loaded_from_its_folder(digits, honest, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(masking, "trained_student", lambda path, data: asked.append(path) or Wrapped(honest))
    found = measure(Wrapped(honest), digits, checks="h", surrogate=str(tmp_path))
    assert asked == [tmp_path] and found["masking/h_transfer"] == 1
