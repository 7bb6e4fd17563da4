"""GLNN's loss against loops, its two kinds of step, the min-cut, and the plans of its recipe."""

import math

import pytest
import torch
from torch import nn

from common import config as configuration
from common.core import Context, Outputs
from common.graphs import Graph, NodeBatch
from common.nets import SAGE
from common.runner import plan_all
from papers.glnn.method import GLNN, glnn_loss
from papers.glnn.min_cut import min_cut

N, C = 7, 4
LABELLED = torch.tensor([True, False, True, False, False, True, False])
TARGET = torch.tensor([0, 3, 1, 2, 2, 3, 0])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


STUDENT, TEACHER = 2 * normal(N, C), 2 * normal(N, C, seed=1)


def probabilities(row, temperature=1.0):
    powers = [math.exp(v / temperature) for v in row]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("label_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_loss_by_loops(label_weight, temperature):
    ce = kl = 0.0
    for i in range(N):
        p = probabilities(STUDENT[i].tolist(), temperature)
        z = probabilities(TEACHER[i].tolist(), temperature)
        kl += sum(z[c] * math.log(z[c] / p[c]) for c in range(C)) / N
        if LABELLED[i]:
            ce -= math.log(probabilities(STUDENT[i].tolist())[TARGET[i]]) / int(LABELLED.sum())
    terms = glnn_loss(STUDENT, TEACHER, TARGET, LABELLED, label_weight, temperature)
    assert float(sum(terms.values())) == pytest.approx(label_weight * ce + (1 - label_weight) * kl, rel=1e-12)


def test_alternating_terms_add_up_to_the_summed_loss():
    method = GLNN(label_weight=0.3)
    whole = {"y": TARGET, "labelled": LABELLED}
    summed = method.loss(whole, Outputs(STUDENT), Outputs(TEACHER), Context(0))
    soft = method.loss({**whole, "soft": torch.tensor(True)}, Outputs(STUDENT), Outputs(TEACHER), Context(0))
    hard = {"y": TARGET[LABELLED], "labelled": LABELLED[LABELLED], "soft": torch.tensor(False)}
    hard = method.loss(hard, Outputs(STUDENT[LABELLED]), Outputs(TEACHER[LABELLED]), Context(0))
    assert list(soft) == ["kd"] and list(hard) == ["ce"]
    torch.testing.assert_close(soft["kd"], summed["kd"])
    torch.testing.assert_close(hard["ce"], summed["ce"])


def test_a_step_of_weight_zero_still_decays():
    layer = nn.Linear(3, C, bias=False).double()
    before = layer.weight.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1, weight_decay=0.01)
    batch = {"y": TARGET, "soft": torch.tensor(False)}
    terms = GLNN(label_weight=0.0).loss(batch, Outputs(layer(normal(N, 3))), None, Context(0))
    sum(terms.values()).backward()
    assert layer.weight.grad.eq(0).all()
    optimizer.step()
    # The first step of Adam is lr * g / (|g| + eps) for the gradient g, here that of the decay alone.
    g = 0.01 * before
    torch.testing.assert_close(before - layer.weight.detach(), 0.1 * g / (g.abs() + 1e-8))


def test_min_cut_by_matrices_and_limits():
    edges = torch.tensor([[0, 1, 1, 2, 2, 3, 0, 3], [1, 0, 2, 1, 3, 2, 3, 0]])[:, :6]
    adjacency = torch.zeros(4, 4, dtype=torch.float64)
    adjacency[edges[0], edges[1]] = 1
    Y = normal(4, C).softmax(1)
    expected = (Y.T @ adjacency @ Y).trace() / (Y.T @ torch.diag(adjacency.sum(1)) @ Y).trace()
    assert min_cut(Y, edges) == pytest.approx(float(expected), rel=1e-12)
    equal, alternating = torch.eye(C)[[1, 1, 1, 1]], torch.eye(C)[[0, 1, 0, 1]]
    assert (min_cut(equal, edges), min_cut(alternating, edges)) == (1.0, 0.0)
    assert min_cut(Y, edges[:, :0]) == 0.0


def test_teacher_trains_on_samples_and_is_evaluated_exactly():
    hub = torch.tensor([[0] * 9 + list(range(1, 10)), list(range(1, 10)) + [0] * 9])
    x = NodeBatch(normal(10, 5).float(), Graph(10, hub), torch.arange(3))
    torch.manual_seed(0)
    net = SAGE(5, C, hidden=8, dropout=0.0, fanout=2)
    draws = [net(x)[0].detach() for _ in range(4)]
    assert any(not torch.equal(draws[0], other) for other in draws[1:])
    net.eval()
    assert torch.equal(net(x), net(x))


def test_arms_share_a_teacher_though_their_batches_differ():
    config = configuration.compose(["paper=glnn", "scale=smoke"])
    plans = {plan.arm: plan for plan in plan_all(config)}
    assert len({plan.teacher.key for plan in plans.values()}) == 1
    assert plans["glnn"].teacher.data.batch_size is None and plans["glnn"].data.batch_size == 512
    assert len(plans["glnn"].data.train_loader(0)) == 1 + 1797 // 512
    assert len(plans["glnn_summed"].data.train_loader(0)) == 1


@pytest.mark.parametrize("teacher", ["gcn", "gat", "appnp"])
def test_other_teachers_and_the_production_setting_run(teacher, folders):
    from common.runner import run

    words = ["paper=glnn", "scale=smoke", "arm=glnn", f"teacher=glnn_{teacher}", "setting=inductive"]
    (record,) = run([*words, *folders])
    assert record["status"] == "finished", record.get("traceback")
    assert "inductive" in record["data"] and record["metrics"]["test/top1"] > 0


@pytest.mark.parametrize(
    ("data", "row"),
    [("cpf_cora", (0.01, 0.005, 0.6)), ("photo", (0.005, 0.002, 0.3)), ("cpf_pubmed", (0.005, 0.0, 0.4))],
)
def test_paper_scale_carries_the_released_parameters(data, row):
    config = configuration.compose(["paper=glnn", "scale=paper", f"data={data}"])
    plain = configuration.plain(config)
    optimizer = plain["optim"]["optimizer"]
    assert (optimizer["lr"], optimizer["weight_decay"], plain["student"]["dropout"]) == row
    assert plain["trainer"]["max_epochs"] == 200 and plain["trainer"]["patience"] == 50
    assert plain["teacher"]["net"] == {
        "_target_": "common.nets.SAGE", "hidden": 128, "layers": 2, "dropout": 0.0, "fanout": 5
    }  # fmt: skip
    assert plain["data"]["unseen"] == 0.2 and plain["selection"] == "best_val"
