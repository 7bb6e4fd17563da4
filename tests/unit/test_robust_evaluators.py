"""Accuracy under attack: exact for a linear network, monotone, honest about its interval."""

import math

import pytest
import torch
from torch import nn

from common.core import Outputs
from common.errors import UserError
from common.evaluators import FGSM, Confidence, Evaluation, PGDAccuracy, RobustGap
from common.evaluators.robust import interval

N, C = 60, 3


class Data:
    """Random images [N, 1, 4, 4] in batches of 16; the training split has images of its own."""

    def eval_loader(self, split):
        generator = torch.Generator().manual_seed(0 if split == "test" else 1)
        x = torch.rand(N, 1, 4, 4, generator=generator)
        y = torch.randint(0, C, (N,), generator=generator)
        return [{"x": x[i], "y": y[i]} for i in torch.arange(N).split(16)]


class Linear(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        weight = torch.randn(C, 16, generator=torch.Generator().manual_seed(2))
        self.weight, self.scale = nn.Parameter(weight), scale

    def forward(self, x):
        return Outputs(self.scale * ((x - 0.5).flatten(1) @ self.weight.T))


def measure(evaluator, model=None):
    return evaluator(model or Linear(), Data(), Evaluation(Data(), None, torch.device("cpu")))


def exact(eps):
    """Two classes decide alone in a linear network: the worst image against class k moves along w_k - w_y."""
    model, right = Linear(), 0
    for batch in Data().eval_loader("test"):
        for x, y in zip(batch["x"].flatten(1), batch["y"].tolist(), strict=True):
            margins = []
            for k in range(C):
                if k != y:
                    w = (model.weight[y] - model.weight[k]).detach()
                    worst = torch.where(w > 0, (x - eps).clamp(min=0), (x + eps).clamp(max=1))
                    margins.append(float((worst - 0.5) @ w))
            right += min(margins) > 0
    return right / N


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.1])
def test_linear_network_has_its_exact_robust_accuracy(eps):
    found = measure(PGDAccuracy(eps, steps=30, restarts=3, loss="dlr"))
    # DLR and cross-entropy pull towards a mix of classes, so that an image may survive that no class would spare.
    assert exact(eps) <= found["test/pgd30_dlr"] <= exact(eps) + 2 / N
    assert exact(eps) <= measure(PGDAccuracy(eps, steps=30, restarts=3))["test/pgd30"] <= exact(eps) + 2 / N


def test_more_is_never_weaker():
    one, five = (measure(PGDAccuracy(0.08, steps=3, restarts=r))["test/pgd3"] for r in (1, 5))
    small, large = (measure(PGDAccuracy(e, steps=10))["test/pgd10"] for e in (0.02, 0.2))
    assert five <= one and large < small
    assert measure(PGDAccuracy(1.0, steps=10))["test/pgd10"] == 0
    assert measure(FGSM(0.08)).keys() == {"test/fgsm", "test/fgsm_low", "test/fgsm_high"}


def test_cap_keeps_the_first_images_and_their_draws():
    whole = measure(PGDAccuracy(0.05, steps=5, images=N))
    assert whole == measure(PGDAccuracy(0.05, steps=5)) == measure(PGDAccuracy(0.05, steps=5))
    first = measure(PGDAccuracy(0.05, steps=5, images=16))
    assert first["test/pgd5"] * 16 == pytest.approx(round(first["test/pgd5"] * 16))
    assert first["test/pgd5_high"] - first["test/pgd5_low"] > whole["test/pgd5_high"] - whole["test/pgd5_low"]


def test_scale_of_the_logits_blinds_cross_entropy_but_not_dlr():
    loud = Linear(1e6)
    assert measure(PGDAccuracy(0.1, steps=20), loud)["test/pgd20"] > exact(0.1) + 0.1
    dlr = measure(PGDAccuracy(0.1, steps=20, loss="dlr"), loud)["test/pgd20_dlr"]
    assert dlr == pytest.approx(measure(PGDAccuracy(0.1, steps=20, loss="dlr"))["test/pgd20_dlr"], abs=1 / N)


def test_interval_by_its_definition():
    for count, total in ((0, 20), (7, 20), (20, 20), (250, 497)):
        low, high = interval(count, total)

        def tail(p, values, total=total):
            return sum(math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in values)

        # At the ends of the interval the observed count is just not too rare.
        assert low == 0 if count == 0 else tail(low, range(count, total + 1)) == pytest.approx(0.025)
        assert high == 1 if count == total else tail(high, range(count + 1)) == pytest.approx(0.025)


def test_gap_is_the_difference_of_the_splits():
    gap = measure(RobustGap(0.05, steps=5))
    train = measure(PGDAccuracy(0.05, steps=5, split="train"))["train/pgd5"]
    test = measure(PGDAccuracy(0.05, steps=5))["test/pgd5"]
    assert gap == {"train/pgd5": train, "test/robust_gap": train - test}


def test_confidence_by_loops():
    model, sure, norm = Linear(), 0.0, 0.0
    for batch in Data().eval_loader("test"):
        for z in model(batch["x"]).logits.tolist():
            sure += max(math.exp(v) for v in z) / sum(math.exp(v) for v in z) / N
            norm += math.sqrt(sum((v - sum(z) / C) ** 2 for v in z)) / N
    found = measure(Confidence())
    assert found["test/confidence"] == pytest.approx(sure, rel=1e-5)
    assert found["test/logit_norm"] == pytest.approx(norm, rel=1e-5)


def test_wrong_use_is_refused():
    with pytest.raises(UserError, match=r"eps=8 .*0\.031373"):
        PGDAccuracy(8)
    with pytest.raises(UserError, match="steps=0"):
        PGDAccuracy(0.1, steps=0)
    with pytest.raises(UserError, match="images=0"):
        PGDAccuracy(0.1, images=0)

    class Probabilities(Linear):
        def forward(self, x):
            return Outputs(super().forward(x).logits.softmax(1))

    with pytest.raises(UserError, match="probabilities"):
        measure(PGDAccuracy(0.1), Probabilities())
