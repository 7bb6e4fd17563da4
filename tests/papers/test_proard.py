"""ProARD: slices, extraction, costs and phases against explicit computations; a run that was killed."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.attacks import PGD
from common.core import Outputs
from common.errors import UserError
from common.runner import run
from papers.proard.measures import Measures, drawn
from papers.proard.method import Phase, draw, lengths, student_terms
from papers.proard.nets import DynamicNet, PlainNet, multiply_adds
from papers.proard.predictor import PredictorOptions, fit_predictor, rank_correlation, root_mse
from papers.proard.procedure import phases_of
from papers.proard.search import search
from papers.proard.sorting import sort_inner, sort_outer
from papers.proard.space import Space, divisible, enumerated
from papers.proard.subnets import recalibrate
from papers.proard.training import Options, Passes, PhaseModule

F64 = torch.float64
SPACE = {
    "stem": 8,
    "stages": [8, 12],
    "base_depths": [1, 2],
    "widths": [0.5, 1.0],
    "depths": [0, 1],
    "expansions": [1.0, 0.5, 0.25],
    "stem_block": True,
}
SPEC = {"num_classes": 5, "in_channels": 2, "image_size": 9}
# widths of stem and stages, depths, stem block skipped, expansions of 2 + 3 blocks.
SOME = (1, 0, 1, 1, 0, 0, 1, 0, 2, 1, 0)


def make(seed=0):
    torch.manual_seed(seed)
    net = DynamicNet(5, 2, strides=[1, 2], **SPACE).to(F64)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


def images(count=6, seed=1):
    return torch.rand(count, 2, 9, 9, dtype=F64, generator=torch.Generator().manual_seed(seed))


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


def test_multiply_adds_by_hand_and_by_torch():
    space = Space(
        8, *(tuple(SPACE[k]) for k in ("stages", "base_depths", "widths", "depths", "expansions")), True
    )
    by_hand = 81 * 9 * 4 * 2 + 81 * 9 * 4 * 4
    by_hand += 81 * (4 * 8 + 4 * 4 + 9 * 4 * 4 + 4 * 8)
    by_hand += 25 * 8 * 6 + 81 * 8 * 2 + 25 * (9 * 2 * 2 + 2 * 6)
    by_hand += 25 * (6 * 3 + 9 * 3 * 3 + 3 * 6) + 25 * (6 * 6 + 9 * 6 * 6 + 6 * 6) + 6 * 5
    assert multiply_adds(space.layout(SOME), [1, 2], SPEC) == by_hand
    for genes in (SOME, space.smallest, space.largest):
        layout = space.layout(genes)
        plain = PlainNet(layout, [1, 2], 5, 2)
        with FlopCounterMode(display=False) as counter:
            plain(torch.zeros(1, 2, 9, 9))
        assert counter.get_total_flops() == 2 * multiply_adds(layout, [1, 2], SPEC)


def test_space_counts_and_numbers_its_networks():
    space = make().space
    everything = enumerated(space)
    assert len(everything) == space.size
    assert len({space.layout(genes) for genes in everything}) == space.size
    assert len({tuple(space.encode(genes).tolist()) for genes in list(everything)[:500]}) == 500
    released = Space(
        64, (256, 512, 1024, 2048), (2, 2, 4, 2), (0.65, 0.8, 1), (0, 1, 2), (0.2, 0.25, 0.35), True, 8
    )
    # Widths of stem and stages, the stem's block, and expansions over all depths of each stage.
    by_hand = 3**5 * 2 * (3**2 + 3**3 + 3**4) ** 3 * (3**4 + 3**5 + 3**6)
    assert released.size == by_hand and 5e11 < by_hand < 1e13


@pytest.mark.parametrize(
    ("value", "divisor", "expected"),
    [(30, 8, 32), (27, 8, 32), (33, 8, 32), (1, 8, 8), (9, 8, 16), (7.4, 1, 7)],
)
def test_channels_are_multiples(value, divisor, expected):
    # 9 rounds to 8, which is below nine tenths of it; 27 rounds to 24, below as well.
    assert divisible(value, divisor) == expected


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


def test_phases_open_the_space_step_by_step():
    space = make().space
    # 3 widths, 2 depths, the stem's block, 5 expansions.
    assert space.open(0, 1, 1) == (2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1)
    assert space.open(0, 2, 1) == (2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1)
    assert space.open(0, 0, 2) == (2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
    assert space.open(0, 0, 0) == space.choices == (2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3)
    published = [Phase(str(i), epochs, 0.1) for i, epochs in enumerate((120, 25, 120, 25, 120))]
    assert lengths(published, 410) == [120, 25, 120, 25, 120]
    assert sum(lengths(published, 41)) == 41 and lengths(published, 2)[1] == 1
    phase = Phase("a", 1, 0.2, warmup=0.25)
    rates = [phase.rate(p) for p in (0.0, 0.125, 0.25, 0.625, 1.0)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])


def test_draws_depend_on_seed_epoch_and_step_alone_and_are_even():
    space = make().space
    limits = space.open(0, 1, 2)
    one = draw(space, limits, 3, 1, 2, 5, 0)
    torch.rand(7)
    assert draw(space, limits, 3, 1, 2, 5, 0) == one == space.canonical(one)
    others = {draw(space, limits, *place) for place in ((4, 1, 2, 5, 0), (3, 2, 2, 5, 0), (3, 1, 3, 5, 0))}
    others |= {draw(space, limits, 3, 1, 2, 6, 0), draw(space, limits, 3, 1, 2, 5, 1)}
    assert len(others - {one}) == 5
    rows = torch.tensor([draw(space, limits, 0, 0, 0, step, 0) for step in range(600)])
    for gene, limit in zip(rows.T, limits, strict=True):
        counts = torch.bincount(gene, minlength=limit)
        assert len(counts) == limit and (counts - 600 / limit).abs().max() < 4 * math.sqrt(600 / 4)


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


def test_predictor_orders_a_known_function():
    space = make().space
    genes = drawn(space, 160, 7)
    codes = torch.stack([space.encode(g) for g in genes])
    weights = torch.randn(codes.shape[1], 2, generator=torch.Generator().manual_seed(0))
    target = 0.5 + 0.02 * codes @ weights
    options = PredictorOptions(layers=2, width=32, epochs=40, batch_size=16)
    net = fit_predictor(codes[:120], target[:120], options, 0)
    with torch.no_grad():
        guess = net(codes[120:])
    for j in (0, 1):
        assert rank_correlation(guess[:, j].tolist(), target[120:, j].tolist()) > 0.9
    again = fit_predictor(codes[:120], target[:120], options, 0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_losses_and_correlations_of_the_predictor():
    predicted, target = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    assert float(root_mse(predicted, target)) == pytest.approx(math.sqrt(0.5) + math.sqrt(8.0), rel=1e-5)
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3], "kendall") == pytest.approx((5 - 1) / 6)
    assert rank_correlation([1, 2, 3], [0.5, 0.5, 0.5]) == 0.0


def test_search_finds_the_front_of_a_known_function():
    space = make().space
    weights = torch.rand(sum(space.choices), 2, generator=torch.Generator().manual_seed(1))

    def cost(genes):
        return multiply_adds(space.layout(genes), [1, 2], SPEC)

    limit = 0.3 * cost(space.largest)
    found = search(space, lambda codes: codes @ weights, cost, limit, 0, population=40, generations=25)
    assert all(one.cost == cost(one.genes) <= limit for one in found)
    allowed = [genes for genes in sorted(enumerated(space)) if cost(genes) <= limit]
    values = torch.stack([space.encode(genes) for genes in allowed]) @ weights
    assert found[0].robust == pytest.approx(float(values[:, 1].max()), rel=0.02)
    for one in found[:5]:
        better = (values[:, 0] > one.clean * 1.02) & (values[:, 1] > one.robust * 1.02)
        assert not better.any()
    assert search(space, lambda codes: codes @ weights, cost, limit, 0, 40, 25) == found


def test_wrong_use_is_one_sentence():
    options = {
        "stem": 4,
        "stages": (4,),
        "base_depths": (1,),
        "widths": (1.0,),
        "depths": (0,),
        "expansions": (1.0,),
    }
    for change, words in [
        ({"widths": ()}, "widths is empty"),
        ({"base_depths": (1, 1)}, "one number a stage"),
        ({"base_depths": (0,)}, "at least one block"),
        ({"expansions": (0.0,)}, "above 0"),
    ]:
        with pytest.raises(UserError, match=words):
            Space(**{**options, **change})
    with pytest.raises(UserError, match="is no architecture of this space"):
        Space(**options).layout((0, 1, 0, 0))
    with pytest.raises(UserError, match="no sub-network keeps the limit"):
        search(Space(**options), None, lambda genes: 10, 5, 0)
    with pytest.raises(UserError, match="phase a: epochs and lr"):
        Phase("a", 0, 0.1)
    with pytest.raises(UserError, match=r"phases.*unexpected keyword argument 'epoch'"):
        phases_of({"a": {"epoch": 1, "lr": 0.1}}, "phases")
    with pytest.raises(UserError, match=r"limit=2 has to lie in \(0, 1\]"):
        Measures(PGD(0.1, 0.1, 1), limit=2)
    with pytest.raises(UserError, match=r"predictor: .*unexpected keyword argument 'depth'"):
        Measures(PGD(0.1, 0.1, 1), predictor={"depth": 2})


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    command = ["paper=proard", "scale=smoke", "arm=[per_epoch]", "logger=none", f"paths.zoo={tmp_path}/zoo"]
    command += ["limit.epochs=4", "trainer.max_epochs=4", "trainer.checkpoint_seconds=0"]
    (whole,) = run([*command, f"paths.runs={tmp_path}/whole"])
    begin = PhaseModule.on_train_epoch_start

    def killed(self):
        if self._number == 1 and self.current_epoch == 1:
            raise RuntimeError("killed")
        begin(self)

    monkeypatch.setattr(PhaseModule, "on_train_epoch_start", killed)
    other = [*command, f"paths.runs={tmp_path}/cut"]
    assert run(other)[0]["reason"].endswith("killed")
    assert list((tmp_path / "cut").rglob("all.ckpt"))
    monkeypatch.undo()
    (resumed,) = run(other)
    assert resumed["metrics"] == whole["metrics"]


def test_teacher_and_student_have_to_be_the_same_network(folders):
    smaller = "{_target_: common.nets.small_cnn, width: 4, depth: 2}"
    (record,) = run(["paper=proard", "scale=smoke", "arm=[alone_small]", f"teacher.net={smaller}", *folders])
    assert record["status"] == "failed"
    assert "the teacher is the largest sub-network" in record["reason"]
