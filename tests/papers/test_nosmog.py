"""NOSMOG's loss, augmentation and noise against loops and closed forms; what its two sides see."""

import math

import pytest
import torch
from scipy.sparse import csr_matrix
from torch import nn

from common import config as configuration
from common.core import Context, Outputs
from common.errors import UserError
from common.evaluators.base import Evaluation
from common.graphs import Graph, NodeBatch, SparseMatrix
from common.nets import NodeMLP
from common.nets.taps import TappedNet
from common.runner import run
from papers.nosmog.augmentation import perturbation
from papers.nosmog.data import noisy, side_by_side, student_view
from papers.nosmog.method import NOSMOG
from papers.nosmog.robustness import FeatureNoise
from papers.nosmog.structure import rsd_loss

B, C, H = 5, 3, 4
SOFT, HARD = {"soft": torch.tensor(True)}, {"soft": torch.tensor(False)}
POSITIONS = {"walk_length": 4, "walks": 1, "window": 2, "iterations": 1, "dimensions": 3}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TEACHER, STUDENT = normal(B, C), normal(B, C, seed=1)
TARGET = torch.tensor([0, 2, 1, 1, 0])


def kl_by_loops(s, t):
    total = 0.0
    for i in range(len(t)):
        p, q = t[i].softmax(0).tolist(), s[i].softmax(0).tolist()
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(t)


def ce_by_loops(s, y):
    return -sum(math.log(s[i].softmax(0)[y[i]]) for i in range(len(y))) / len(y)


def rsd_by_loops(T, M):
    total = 0.0
    for i in range(len(T)):
        for j in range(len(T)):
            total += (sum(T[i] * T[j]) - sum(M[i] * M[j])) ** 2
    return float(total) / len(T) ** 2


def test_structure_loss_by_loops():
    T, M = normal(B, 7, seed=2), normal(B, H, seed=3)
    assert float(rsd_loss(T, M)) == pytest.approx(rsd_by_loops(T, M), rel=1e-12)


def test_structure_loss_sees_inner_products_alone_and_leaves_the_teacher():
    T = normal(B, H, seed=2)
    rotation = torch.linalg.qr(normal(H, H, seed=4))[0]
    assert float(rsd_loss(T, T @ rotation)) == pytest.approx(0, abs=1e-24)
    assert float(rsd_loss(T, T + 1)) > 0.1
    T, M = T.requires_grad_(), normal(B, H, seed=3).requires_grad_()
    rsd_loss(T, M).backward()
    assert T.grad is None and M.grad.abs().max() > 0
    assert torch.autograd.gradcheck(lambda m: rsd_loss(T, m), normal(B, H, seed=3).requires_grad_())


def test_perturbation_of_a_linear_loss_is_known():
    slope, epsilon = normal(B, 6), 0.04
    slope[0] = 0
    start = torch.rand(B, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    start = (2 * start - 1) * epsilon
    for steps in (1, 5):
        delta = perturbation(
            normal(B, 6, seed=5), lambda x: (slope * x).sum(), epsilon, steps,
            torch.Generator().manual_seed(9),
        )  # fmt: skip
        expected = (start + steps * epsilon / 4 * slope.sign()).clamp(-epsilon, epsilon)
        torch.testing.assert_close(delta, expected, atol=1e-15, rtol=1e-12)
        assert delta.abs().max() <= epsilon and not delta.requires_grad


def test_perturbation_leaves_no_gradient_in_the_network():
    net = nn.Linear(6, 1).double()
    perturbation(normal(B, 6), lambda x: net(x).sum(), 0.1, 2, torch.Generator().manual_seed(0))
    assert net.weight.grad is None


@pytest.mark.parametrize("soft", [True, False])
def test_terms_by_loops(soft):
    method = NOSMOG(soft_weight=0.7, rsd_weight=0.2, adversarial_weight=0.3, dropout=0.0).double()
    h, T = normal(2 * B, H, seed=6), normal(B, 7, seed=7)
    method.build(Outputs(STUDENT, {"hidden": h}), None, Context(0))
    method.double()
    moved = normal(B, C, seed=8)
    batch = {"y": TARGET, **(SOFT if soft else HARD)}
    student = Outputs(torch.cat([STUDENT, moved]), {"hidden": h})
    terms = method.loss(batch, student, Outputs(TEACHER, {"hidden": T}), Context(0))
    factor = 0.7 if soft else 0.3
    base = [kl_by_loops(s, TEACHER) if soft else ce_by_loops(s, TARGET) for s in (STUDENT, moved)]
    M = (h[:B] @ method.projector.weight.T + method.projector.bias).clamp(min=0).detach()
    expected = factor * base[0], factor * 0.3 * base[1], factor * 0.2 * rsd_by_loops(T, M)
    assert [terms[name].item() for name in ("base", "adv", "rsd")] == pytest.approx(expected, rel=1e-10)


def student_and_batch(sparse=False):
    torch.manual_seed(0)
    net = TappedNet(NodeMLP(6, C, hidden=H, dropout=0.0), {"hidden": "penultimate"})
    features = normal(9, 6).float()
    graph = Graph(9, torch.tensor([[0, 1], [1, 0]]))
    if sparse:
        features = side_by_side([SparseMatrix.of(csr_matrix(features))])
    index = torch.tensor([8, 1, 4, 0, 3])
    x = NodeBatch(features, graph, index)
    return net, {"x": x, "y": TARGET, "index": index, **SOFT}


@pytest.mark.parametrize("sparse", [True, False])
def test_moved_nodes_are_below_the_clean_ones_and_harder(sparse):
    student, batch = student_and_batch(sparse)
    teacher = TappedNet(NodeMLP(6, C, hidden=8, dropout=0.0))
    method, context = NOSMOG(epsilon=0.3, rsd_weight=0.0), Context(0)
    prepared = method.prepare_batch(batch, {"student": student, "teacher": teacher}, context)
    rows = prepared["x"].rows()
    clean = normal(9, 6).float()[batch["index"]]
    torch.testing.assert_close(rows[:B], clean)
    assert 0.29 < (rows[B:] - clean).abs().max() <= 0.3 + 1e-6
    assert prepared["x_teacher"] is batch["x"]
    targets = teacher(batch["x"])
    terms = method.loss(prepared, student(prepared["x"]), targets, context)
    assert terms["adv"] / method.adversarial_weight > terms["base"]


def test_nothing_is_moved_where_the_factor_is_zero():
    _student, batch = student_and_batch()
    hard = {**batch, **HARD}
    assert NOSMOG(soft_weight=1.0).prepare_batch(hard, {}, Context(0)) is hard
    assert NOSMOG(adversarial_weight=0.0).prepare_batch(batch, {}, Context(0)) is batch
    with pytest.raises(UserError, match=r"set data\.batch_size to a number"):
        NOSMOG().prepare_batch({"x": batch["x"]}, {}, Context(0))


def test_noise_by_its_definition_and_moments():
    X = normal(400, 50).float()
    assert torch.equal(noisy(X, 0.0, 1), X)
    rest = noisy(X, 0.3, 1) - 0.7 * X
    assert float(rest.std()) == pytest.approx(0.3, rel=0.02) and abs(float(rest.mean())) < 0.01
    assert torch.equal(noisy(X, 0.3, 1), noisy(X, 0.3, 1)) and not torch.equal(
        noisy(X, 0.3, 1), noisy(X, 0.3, 2)
    )


@pytest.fixture(scope="module")
def views():
    options = {"name": "digits_knn", "setting": "inductive", "train_per_class": 5, "val_per_class": 20}
    plain = student_view(**options, batch_size=512)
    return plain, student_view(**options, batch_size=512, positions=POSITIONS)


def test_student_sees_positions_and_the_teacher_does_not(views):
    plain, placed = views
    assert placed.spec["num_features"] == plain.spec["num_features"] + 3
    batches = [
        placed.whole,
        *placed.train_loader(0),
        *(placed.eval_loader(s)[0] for s in ("val", "test", "observed")),
    ]
    others = [
        plain.whole,
        *plain.train_loader(0),
        *(plain.eval_loader(s)[0] for s in ("val", "test", "observed")),
    ]
    for batch, other in zip(batches, others, strict=True):
        assert torch.equal(batch["x"].rows()[:, :-3], other["x"].rows())
        assert torch.equal(batch["x_teacher"].rows(), other["x"].rows())
        assert torch.equal(batch["y"], other["y"])
    unseen = placed.eval_loader("test")[0]["x"].rows()[:, -3:]
    assert unseen.abs().sum() > 0


def test_evaluation_shows_each_side_its_own_view(views):
    plain, placed = views
    teacher = TappedNet(NodeMLP(plain.spec["num_features"], 10))
    student = TappedNet(NodeMLP(placed.spec["num_features"], 10))
    cpu = torch.device("cpu")
    found = Evaluation(placed, teacher, cpu).predictions(teacher, "test")
    expected = Evaluation(plain, teacher, cpu).predictions(teacher, "test")
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    logits, _ = Evaluation(placed, teacher, cpu).predictions(student, "test")
    assert torch.equal(logits, student.eval()(placed.eval_loader("test")[0]["x"]).logits)


def test_evaluator_moves_features_and_leaves_positions(views):
    _plain, placed = views
    ctx = Evaluation(placed, None, torch.device("cpu"))
    on_positions = TappedNet(NodeMLP(placed.spec["num_features"], 10, layers=1))
    with torch.no_grad():
        on_positions.net.linears[0].weight[:, :-3] = 0
    metrics = FeatureNoise([0.1, 1.0])(on_positions, placed, ctx)
    logits, labels = ctx.predictions(on_positions, "test")
    accuracy = float((logits.argmax(1) == labels).double().mean())
    assert metrics == {
        "test/top1_noise_0.1": accuracy, "test/top1_noise_1.0": accuracy, "test/top1_noisy": accuracy
    }  # fmt: skip
    free = TappedNet(NodeMLP(placed.spec["num_features"], 10))
    assert FeatureNoise([0.0, 1.0])(free, placed, ctx)["test/top1_noise_0.0"] == pytest.approx(
        float((ctx.predictions(free, "test")[0].argmax(1) == labels).double().mean())
    )
    assert FeatureNoise()(free, placed, Evaluation(placed, free, torch.device("cpu"))) == {}


def test_arms_share_one_teacher_that_scores_the_same_in_all(folders):
    words = ["paper=nosmog", "scale=smoke", "arm=[glnn,position,nosmog]", *folders]
    records = run(words)
    assert [r["status"] for r in records] == ["finished"] * 3, [r.get("traceback") for r in records]
    assert len({r["teacher"]["key"] for r in records}) == 1
    scores = [{k: v for k, v in r["teacher"]["metrics"].items() if "min_cut" not in k} for r in records]
    assert scores[0] == scores[1] == scores[2]
    again = run([*words, "force=true"])
    assert [r["metrics"] for r in again] == [r["metrics"] for r in records]


def test_positions_follow_the_seed_in_the_inductive_setting_alone():
    def seeds(setting):
        words = ["paper=nosmog", "arm=position", f"setting={setting}", "scale=smoke"]
        split = [next(configuration.split(configuration.compose([*words, f"seed={k}"]))) for k in (0, 1)]
        return [resolved["data"]["position_seed"] for _, resolved, _, _ in split]

    assert seeds("transductive") == [0, 0] and seeds("inductive") == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": False}, r"data\.features=false leaves the student nothing to see"),
        ({"noise": 1.5}, r"data\.noise=1\.5 has to lie in \[0, 1\]"),
        ({"settnig": "inductive"}, r"data\.settnig is not an option"),
        ({"positions": {**POSITIONS, "walk": 3}}, r"data\.positions\.walk is not an option"),
        ({"positions": {**POSITIONS, "walks": 0}}, r"data\.positions\.walks=0 has to be a whole number"),
    ],
)
def test_bad_options_end_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        student_view(name="digits_knn", train_per_class=5, val_per_class=20, **options)
