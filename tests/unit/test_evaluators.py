"""Evaluators against plain loops."""

import math

import pytest
import torch

from common.core import Outputs
from common.evaluators import (
    Accuracy,
    CalibrationError,
    Evaluation,
    Fidelity,
    NegativeLogLikelihood,
    evaluate,
)


class Fixed(torch.nn.Module):
    """Returns prepared logits for the sample numbers it is given as images."""

    def __init__(self, logits):
        super().__init__()
        self.table = logits

    def forward(self, x):
        return Outputs(self.table[x.long().flatten()])


class Data:
    def __init__(self, y, batch=7):
        self.y, self.batch = y, batch

    def eval_loader(self, split):
        assert split == "test"
        for index in torch.arange(len(self.y)).split(self.batch):
            yield {"x": index[:, None], "y": self.y[index], "index": index}


@pytest.fixture
def setting():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (Fixed(2 * torch.randn(60, 8, generator=generator)) for _ in range(2))
    y = torch.randint(0, 8, (60,), generator=generator)
    return student, teacher, y, Evaluation(Data(y), teacher, torch.device("cpu"))


def test_accuracy_by_counting(setting):
    student, _, y, ctx = setting
    found = Accuracy((1, 3, 8))(student, ctx.data, ctx)
    for k in (1, 3):
        hits = 0
        for row, label in zip(student.table.tolist(), y.tolist(), strict=True):
            hits += label in sorted(range(8), key=lambda c: -row[c])[:k]
        assert found[f"test/top{k}"] == pytest.approx(hits / 60)
    assert "test/top8" not in found


def test_likelihood_by_hand(setting):
    student, _, y, ctx = setting
    total = 0.0
    for row, label in zip(student.table.double().tolist(), y.tolist(), strict=True):
        total -= row[label] - math.log(sum(math.exp(v) for v in row))
    assert NegativeLogLikelihood()(student, ctx.data, ctx)["test/nll"] == pytest.approx(total / 60, rel=1e-9)


def test_calibration_error_by_bins(setting):
    student, _, y, ctx = setting
    bins = [[] for _ in range(15)]
    for row, label in zip(student.table.double().tolist(), y.tolist(), strict=True):
        weights = [math.exp(v) for v in row]
        best = max(range(8), key=lambda c: row[c])
        confidence = weights[best] / sum(weights)
        bins[min(int(confidence * 15), 14)].append((confidence, best == label))
    expected = sum(abs(sum(c - r for c, r in members)) for members in bins) / 60
    assert CalibrationError(15)(student, ctx.data, ctx)["test/ece"] == pytest.approx(expected, abs=1e-6)


def test_perfectly_calibrated_and_perfectly_wrong():
    y = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[math.log(3.0), 0.0]] * 4)
    ctx = Evaluation(Data(y), None, torch.device("cpu"))
    assert CalibrationError()(Fixed(logits), ctx.data, ctx)["test/ece"] == pytest.approx(0.0, abs=1e-7)
    sure = Fixed(torch.tensor([[0.0, 50.0]] * 4))
    ctx = Evaluation(Data(torch.zeros(4, dtype=torch.long)), None, torch.device("cpu"))
    assert CalibrationError()(sure, ctx.data, ctx)["test/ece"] == pytest.approx(1.0, abs=1e-6)


def test_fidelity_by_loops(setting):
    student, teacher, _, ctx = setting
    found = Fidelity()(student, ctx.data, ctx)
    same, divergence = 0, 0.0
    for s, t in zip(student.table.double(), teacher.table.double(), strict=True):
        same += int(s.argmax() == t.argmax())
        p, q = t.softmax(0).tolist(), s.softmax(0).tolist()
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert found["test/agreement"] == pytest.approx(same / 60)
    assert found["test/teacher_kl"] == pytest.approx(divergence / 60, rel=1e-6)
    assert Fidelity()(teacher, ctx.data, ctx) == {}


def test_forward_passes_are_made_once(setting):
    student, _, _, ctx = setting
    calls = []
    student.register_forward_hook(lambda *a: calls.append(1))
    evaluators = {"a": Accuracy(), "b": NegativeLogLikelihood(), "c": Fidelity()}
    metrics = evaluate(student, evaluators, ctx)
    assert len(calls) == math.ceil(60 / 7)
    assert all(type(value) is float for value in metrics.values())
