"""KRD against loops over pairs, hand-made histograms and its limits, in float64."""

import math

import numpy as np
import pytest
import torch

from common.core.outputs import Context
from common.graphs import Graph, NodeBatch
from common.losses import glnn_loss
from papers.krd.method import KRD, krd_loss
from papers.krd.reliability import agreement_histogram, entropy, fit_power, reliability, unreliability
from papers.krd.sampler import PairSampler

N, C = 6, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = 2 * normal(N, C), 2 * normal(N, C, seed=1)
TARGET = torch.tensor([0, 3, 2, 2, 1, 3])
LABELLED = torch.tensor([True, False, True, False, False, True])
# (student node, teacher node); node 0 learns from two others, node 5 teaches twice.
PAIRS = torch.tensor([[0, 0, 3, 4], [1, 5, 5, 2]])


def softmax(row, temperature):
    top = [math.exp(v / temperature) for v in row]
    return [v / sum(top) for v in top]


@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.2])
def test_loss_is_one_mean_over_drawn_and_self_pairs(temperature):
    s, t = STUDENT.tolist(), TEACHER.tolist()
    pairs = [*map(tuple, PAIRS.T.tolist()), *((i, i) for i in range(N))]
    kl = 0.0
    for i, j in pairs:
        p, q = softmax(t[j], temperature), softmax(s[i], temperature)
        kl += sum(p[c] * math.log(p[c] / q[c]) for c in range(C))
    labelled = [i for i in range(N) if LABELLED[i]]
    ce = -sum(math.log(softmax(s[i], 1.0)[TARGET[i]]) for i in labelled) / len(labelled)
    found = krd_loss(STUDENT, TEACHER, TARGET, LABELLED, PAIRS, 0.3, temperature)
    assert found["ce"].item() == pytest.approx(0.3 * ce, rel=1e-12)
    assert found["kd"].item() == pytest.approx(0.7 * kl / len(pairs), rel=1e-12)


def test_gradient_by_differences():
    student = STUDENT.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: sum(krd_loss(s, TEACHER, TARGET, LABELLED, PAIRS, 0.3, 1.1).values()), student
    )


def test_without_edges_it_is_glnn():
    alone = krd_loss(STUDENT, TEACHER, TARGET, LABELLED, PAIRS[:, :0], 0.4, 1.1)
    glnn = glnn_loss(STUDENT, TEACHER, TARGET, LABELLED, 0.4, 1.1)
    for name in ("ce", "kd"):
        torch.testing.assert_close(alone[name], glnn[name])


def test_a_student_that_copies_equal_teachers_has_no_distillation_loss():
    same = TEACHER[:1].expand(N, C)
    assert krd_loss(same, same, TARGET, LABELLED, PAIRS, 0.0, 1.0)["kd"].item() == pytest.approx(0, abs=1e-12)


def test_entropy_limits():
    assert entropy(torch.zeros(1, C, dtype=torch.float64)).item() == pytest.approx(math.log(C))
    assert entropy(torch.tensor([[1e4, 0.0, 0.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_unreliability_by_hand():
    flat, sharp = [0.0] * C, [50.0, 0.0, 0.0, 0.0]
    half = [50.0, 50.0, 0.0, 0.0]
    clean = torch.tensor([flat, sharp, sharp], dtype=torch.float64)
    noisy = torch.tensor([flat, flat, half], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0, math.log(2) / math.log(C)], dtype=torch.float64)
    torch.testing.assert_close(unreliability(clean, [noisy]), expected, atol=1e-8, rtol=0)
    averaged = unreliability(clean, [noisy, clean])
    torch.testing.assert_close(averaged, expected, atol=1e-8, rtol=0)
    assert unreliability(clean, [clean]).tolist() == [0, 0, 0]


RHO = torch.tensor([0.0, 0.05, 0.3, 0.35, 0.6, 1.0])
AGREE = torch.tensor([True, True, True, False, False, False])


def test_histogram_by_hand():
    x, q = agreement_histogram(RHO, AGREE, 4, "centred", "zero")
    # Shares by quarter: 2/2, 1/2, 0/1, 0/1; their minimum is 0 and maximum 1.
    np.testing.assert_allclose(x, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(q, [1, 0.5, 0, 0], atol=1e-6)


def test_empty_bins_count_as_disagreement_or_are_left_out():
    rho = torch.tensor([0.0, 0.9])
    agree = torch.tensor([True, True])
    _, zero = agreement_histogram(rho, agree, 4, "centred", "zero")
    x, drop = agreement_histogram(rho, agree, 4, "centred", "drop")
    np.testing.assert_allclose(zero, [1, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(x, [0.125, 0.875])
    assert drop.tolist() == [0, 0]


def test_the_official_abscissa_leaves_the_unit_interval_and_stays_finite():
    x, q = agreement_histogram(RHO, AGREE, 50, "official", "zero")
    centred, _ = agreement_histogram(RHO, AGREE, 50, "centred", "zero")
    assert x.max() == pytest.approx(1.03) and centred.max() == pytest.approx(0.99)
    for abscissa in (x, centred):
        assert math.isfinite(fit_power(abscissa, q, 1.0))


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_fit_finds_the_power_of_exact_data(power):
    x = (np.arange(50) + 0.5) / 50
    assert fit_power(x, 1 - x**power, 1.0) == pytest.approx(power, rel=1e-5)


def test_fit_is_the_least_squares_minimum():
    x, q = agreement_histogram(RHO, AGREE, 50, "centred", "zero")
    found = fit_power(x, q, 1.0)
    grid = np.linspace(0.01, 10, 20000)
    errors = ((q[:, None] - (1 - x[:, None] ** grid)) ** 2).sum(0)
    assert found == pytest.approx(grid[errors.argmin()], abs=2e-3)


def test_probability_limits():
    rho = torch.tensor([0.0, 0.5, 1.0])
    assert reliability(rho, 1.0).tolist() == [1.0, 0.5, 0.0]
    assert reliability(rho, 3.0).tolist() == [1.0, 0.875, 0.0]


def sampler(**options):
    fit = {"power": "learned", "initial_power": 1.0, "momentum": 0.9, "bins": 10, "abscissa": "centred"}
    base = {"warmup": 2, "update_every": 1, **fit, "empty_bins": "zero", "noise": 1.0, "noise_draws": 1}
    return PairSampler(**{**base, "sampling": "reliability", **options})


def star(n):
    """Every node is a teacher of node 0, many times over."""
    return torch.stack([torch.arange(1, n).repeat(400), torch.zeros((n - 1) * 400, dtype=torch.int64)])


def test_edges_are_kept_with_their_teacher_nodes_probability():
    s = sampler()
    s.rho = torch.tensor([0.0, 0.0, 0.25, 0.5, 1.0])
    pairs = s.pairs(star(5), 0, seed=3)
    assert bool((pairs[0] == 0).all())
    kept = torch.bincount(pairs[1], minlength=5)[1:] / 400
    torch.testing.assert_close(kept, torch.tensor([1.0, 0.75, 0.5, 0.0]), atol=0.08, rtol=0)


def test_random_edges_are_as_many_in_expectation():
    s, r = sampler(), sampler(sampling="random")
    s.rho = r.rho = torch.tensor([0.0, 0.0, 0.25, 0.5, 1.0])
    ours, theirs = s.pairs(star(5), 0, seed=3), r.pairs(star(5), 0, seed=4)
    assert theirs.shape[1] == pytest.approx(ours.shape[1], rel=0.08)
    assert torch.bincount(theirs[1], minlength=5)[4] / 400 == pytest.approx(0.5625, abs=0.08)


def test_draws_differ_by_number_and_repeat_by_seed():
    s = sampler()
    s.rho = torch.full((5,), 0.5)
    assert torch.equal(s.pairs(star(5), 2, 1), s.pairs(star(5), 2, 1))
    assert not torch.equal(s.pairs(star(5), 2, 1), s.pairs(star(5), 3, 1))


@pytest.mark.parametrize(
    ("sampling", "draw", "count"), [("all", 4, 1600), ("none", 4, 0), ("reliability", None, 1600)]
)
def test_all_none_and_the_warm_up(sampling, draw, count):
    s = sampler(sampling=sampling)
    s.rho = torch.full((5,), 0.5)
    assert s.pairs(star(5), draw, 1).shape[1] == count


class Fixed(torch.nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits_ = logits

    def forward(self, x):
        from common.core.outputs import Outputs

        return Outputs(self.logits_)


def test_power_is_a_moving_average_of_the_fits():
    s, x = sampler(), NodeBatch(torch.zeros(N, 1), Graph(N, torch.zeros(2, 0, dtype=torch.int64)))
    s.rho = RHO
    s._decisions = torch.zeros(N, dtype=torch.int64)
    student = Fixed(torch.where(AGREE[:, None], torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])))
    fits, alpha = [], 1.0
    for _ in range(3):
        x_b, q_b = agreement_histogram(RHO, AGREE, 10, "centred", "zero")
        alpha = 0.9 * alpha + 0.1 * fit_power(x_b, q_b, alpha)
        fits.append(alpha)
        s.fit(x, student)
        assert float(s.alpha) == pytest.approx(alpha)
    assert s.agreement.tolist() == [1.0, 0.0] and student.training


def test_warm_up_keeps_every_edge_and_a_fit_follows_it():
    edges = torch.tensor([[1, 2, 0], [0, 1, 2]])
    x = NodeBatch(torch.zeros(N, 1), Graph(N, edges))
    method = KRD(warmup=2, power="learned")
    nets = {"teacher": Fixed(TEACHER), "student": Fixed(STUDENT)}
    batch = {"x": x, "y": TARGET, "labelled": LABELLED}
    for epoch in (0, 1):
        method.prepare_batch(batch, nets, Context(0, epoch=epoch))
        assert method._pairs.tolist() == [[0, 1, 2], [1, 2, 0]]
        assert method.report() == {"power": 1.0}
    method.prepare_batch(batch, nets, Context(0, epoch=2))
    assert set(method.report()) == {"power", "agreement_reliable", "agreement_unreliable"}


@pytest.mark.parametrize(
    "options",
    [{"label_weight": 1.5}, {"temperature": 0.0}, {"update_every": 0}, {"noise_draws": 0}, {"bins": 1}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=r"at least|lies in|positive"):
        KRD(**options)
