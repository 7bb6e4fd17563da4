"""ProARD: slices, extraction, losses and training against explicit computations."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.attacks import PGD
from common.core import Outputs
from papers.proard.method import Phase, student_terms
from papers.proard.nets import DynamicNet, PlainNet
from papers.proard.sorting import sort_inner, sort_outer
from papers.proard.subnets import recalibrate
from papers.proard.training import Options, Passes, PhaseModule
from tests.papers.proard_nets import F64, SOME, images, make


def written_out(net, x):
    """The architecture ``SOME`` by hand: stem 4, stage 1 of 8 channels, 1 block, stage 2 of 6 channels, 3 blocks."""

    def norm(layer, x):
        c = x.shape[1]
        shape = (1, c, 1, 1)
        mean, var, weight, bias = (
            t[:c].view(shape) for t in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
        )
        return (x - mean) / (var + layer.eps).sqrt() * weight + bias

    x = F.relu(norm(net.stem_bn, F.conv2d(x, net.stem.weight[:4], padding=1)))
    x = x + F.relu(norm(net.again_bn, F.conv2d(x, net.again.weight[:4, :4], padding=1)))
    plan = [(0, 0, 4, 4, 8, 1), (1, 0, 8, 2, 6, 2), (1, 1, 6, 3, 6, 1), (1, 2, 6, 6, 6, 1)]
    for stage, number, i, w, o, stride in plan:
        block = net.stages[stage][number]
        y = F.relu(norm(block.bn1, F.conv2d(x, block.conv1.weight[:w, :i])))
        y = F.relu(norm(block.bn2, F.conv2d(y, block.conv2.weight[:w, :w], stride=stride, padding=1)))
        y = norm(block.bn3, F.conv2d(y, block.conv3.weight[:o, :w]))
        if number == 0:
            x = norm(block.skip_bn, F.conv2d(x, block.skip.weight[:o, :i], stride=stride))
        x = F.relu(x + y)
    return x.mean((2, 3)) @ net.head.weight[:, :6].T + net.head.bias


def test_slices_are_the_network_written_out():
    net = make()
    net.active(SOME)
    torch.testing.assert_close(net(images()), written_out(net, images()))


def test_extracted_networks_equal_the_shared_one():
    net = make()
    for genes in (SOME, net.space.smallest, net.space.middle, net.space.largest):
        for training in (False, True):
            net.train(training).active(genes)
            plain = net.extract(genes)
            assert type(plain) is PlainNet and not hasattr(plain, "space")
            torch.testing.assert_close(plain(images()), net(images()))
            # Statistics of a pass in train mode went to the same channels.
            shared = net.state_dict()
            for name, tensor in plain.state_dict().items():
                if "num_batches" not in name:
                    torch.testing.assert_close(tensor, shared[name][tuple(slice(0, n) for n in tensor.shape)])


def test_a_step_on_a_subnet_leaves_the_rest_alone():
    net = make().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.active(SOME)
    net(images()).square().sum().backward()
    weight = net.stages[1][0].conv2.weight
    assert weight.grad[:2, :2].abs().min() > 0
    assert weight.grad[2:].abs().max() == 0 and weight.grad[:, 2:].abs().max() == 0
    assert net.stages[0][1].conv1.weight.grad is None
    changed = net.stages[1][0].bn2.running_mean != before["stages.1.0.bn2.running_mean"]
    assert changed[:2].all() and not changed[2:].any()


def test_sorting_changes_no_function_and_puts_heavy_channels_first():
    net = make()
    expected = net(images())
    sort_outer(net)
    sort_inner(net)
    torch.testing.assert_close(net(images()), expected)
    loads = net.stages[1][1].conv3.weight.abs().sum((0, 2, 3))
    assert (loads[:-1] >= loads[1:]).all()
    last = net.head.weight.abs().sum(0)
    for block in list(net.stages[1])[1:]:
        last = last + block.conv1.weight.abs().sum((0, 2, 3))
    assert (last[:-1] >= last[1:]).all()


def test_terms_by_loops():
    clean, adversarial, teacher = (
        torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
    )

    def term(logits):
        total = 0.0
        for row, target in zip(logits.tolist(), teacher.tolist(), strict=True):
            p = [math.exp(v) / sum(map(math.exp, row)) for v in row]
            q = [math.exp(v) / sum(map(math.exp, target)) for v in target]
            total += sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))
        return total / 3

    terms = student_terms(clean, adversarial, teacher)
    assert float(terms["adversarial"]) == pytest.approx(5 / 6 * term(adversarial))
    assert float(terms["clean"]) == pytest.approx(1 / 6 * term(clean))
    released = student_terms(clean, adversarial, teacher, reduction="mean")
    assert float(released["clean"]) == pytest.approx(1 / 6 * term(clean) / 4)


def test_recalibration_gives_the_statistics_of_the_data():
    net = make().extract(SOME)
    batches = [images(5, seed=3), images(5, seed=4)]
    recalibrate(net, batches)
    values = [F.conv2d(batch, net.stem.weight, padding=1) for batch in batches]
    torch.testing.assert_close(net.stem_bn.running_mean, torch.cat(values).mean((0, 2, 3)))
    variances = [v.transpose(0, 1).flatten(1).var(1) for v in values]
    torch.testing.assert_close(net.stem_bn.running_var, (variances[0] + variances[1]) / 2)
    assert net.stem_bn.momentum == 0.1 and not net.training


class Wrapped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, []

    def forward(self, x):
        if isinstance(self.net, DynamicNet):
            self.calls.append((self.net.genes, len(x), x.requires_grad))
        return Outputs(self.net(x))


@pytest.mark.parametrize("sample", ["iteration", "epoch"])
def test_attack_and_update_use_one_subnet_and_all_passes_are_counted(sample):
    import lightning as L

    net = Wrapped(make().float())
    teacher = Wrapped(make().float().extract(net.net.space.largest))
    options = Options(PGD(0.1, 0.05, 2), sample=sample)
    phase = Phase("all", 1, 0.01, nets=3)
    passes = Passes([{"x": images(4, seed=s).float()} for s in (1, 2)], None, 3 if sample == "epoch" else 1)
    module = PhaseModule(net, teacher, phase, 0, net.net.space.choices, options, 0, 2 * len(passes))
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, passes)
    # Two steps of the attack, then the adversarial and the clean pass.
    groups = [net.calls[i : i + 4] for i in range(0, len(net.calls), 4)]
    assert len(groups) == 6 and all(len({genes for genes, _, _ in group}) == 1 for group in groups)
    assert [wants for _, _, wants in groups[0]] == [True, True, False, False]
    assert int(module.gradient_evaluations) == 4 * len(net.calls)
    drawn_ = [group[0][0] for group in groups]
    pairs_equal = [drawn_[i] == drawn_[i + 1] for i in (0, 2, 4)]
    assert all(pairs_equal) if sample == "epoch" else len(set(drawn_)) == 6
