"""Anti-exploration by random network distillation: loss, networks and update against independent computations."""

import copy
import math
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.artifacts import load_tensors
from common.config import compose, split
from common.data.offline import ReplaySampler, Transitions
from common.envs import EnvSpec
from common.errors import UserError
from common.methods.actor_critic import IQL, SAC, TD3BC
from common.runner import run
from papers.sac_rnd import field, nets, strip
from papers.sac_rnd.actor_only import ActorOnly
from papers.sac_rnd.evaluators import BonusMinimiser, auroc
from papers.sac_rnd.method import SACRND, rnd_bonus, rnd_error, sac_rnd_loss, sac_rnd_next_value
from papers.sac_rnd.procedure import AntiExploration
from papers.sac_rnd.rnd import RND
from tests.resuming import check_resuming

S, A, B = 4, 2, 6
G = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def moments():
    return {
        "state_mean": torch.full((S,), 0.3),
        "state_std": torch.full((S,), 2.0),
        "action_mean": torch.full((A,), -0.1),
        "action_std": torch.full((A,), 0.5),
    }


def make_rnd(**options):
    torch.manual_seed(1)
    rnd = RND(S, A, **moments(), width=8, embedding=3, **options)
    rnd.moments.update(torch.rand(10, generator=G))
    return rnd


def make_batch(generator=G, dtype=torch.float32):
    return {
        "s": torch.randn(B, S, generator=generator).to(dtype),
        "a": (torch.rand(B, A, generator=generator) * 2 - 1).to(dtype),
        "r": torch.randn(B, generator=generator).to(dtype),
        "next_s": torch.randn(B, S, generator=generator).to(dtype),
        "d": torch.tensor([0, 1, 0, 0, 1, 0], dtype=dtype),
    }


def test_bonus_and_losses_equal_the_formulas_written_out():
    prediction, prior, log_prob, value = normal(B, 3), normal(B, 3), normal(B), normal(B)
    sigma, temp, weight = 0.7, 0.4, 2.5
    b = [sum((float(prediction[i, k]) - float(prior[i, k])) ** 2 for k in range(3)) / sigma for i in range(B)]
    assert rnd_bonus(prediction, prior, sigma).tolist() == pytest.approx(b)
    actor = sum(temp * float(log_prob[i]) + weight * b[i] - float(value[i]) for i in range(B)) / B
    bonus = torch.tensor(b, dtype=torch.float64)
    assert float(sac_rnd_loss(log_prob, value, bonus, temp, weight)) == pytest.approx(actor)
    ahead = [float(value[i]) - temp * float(log_prob[i]) - weight * b[i] for i in range(B)]
    assert sac_rnd_next_value(value, log_prob, bonus, temp, weight).tolist() == pytest.approx(ahead)


def test_bonus_of_equal_networks_is_zero_and_a_vanishing_sigma_is_guarded():
    rnd = make_rnd(prior="concat_first", predictor="concat_first")
    rnd.predictor.load_state_dict(rnd.prior.state_dict())
    batch = make_batch()
    assert rnd.bonus(batch["s"], batch["a"]).abs().max() == 0
    assert rnd_bonus(normal(2, 3), normal(2, 3), 0.0).isfinite().all()


def test_film_equals_an_explicit_einsum():
    torch.manual_seed(0)
    net = nets.Conditioned("film_last", A, S, width=5, embedding=3).double()
    a, s = normal(B, A), normal(B, S)
    W1, W2, layer, W4 = net.layers[0], net.layers[1], net.layers[2], net.head
    h = torch.relu(torch.einsum("ki,bi->bk", W1.weight, a) + W1.bias)
    h = torch.relu(torch.einsum("ki,bi->bk", W2.weight, h) + W2.bias)
    h = torch.einsum("ki,bi->bk", layer.linear.weight, h) + layer.linear.bias
    both = torch.einsum("kj,bj->bk", layer.modulation.weight, s) + layer.modulation.bias
    h = torch.relu(both[:, :5] * h + both[:, 5:])
    torch.testing.assert_close(net(a, s), torch.einsum("ki,bi->bk", W4.weight, h) + W4.bias)


def test_bilinear_equals_torch_s_own():
    torch.manual_seed(0)
    ours, theirs = nets.Bilinear(A, S, 7).double(), nn.Bilinear(A, S, 7).double()
    theirs.load_state_dict(ours.state_dict())
    a, s = normal(B, A).requires_grad_(), normal(B, S)
    torch.testing.assert_close(ours(a, s), theirs(a, s))
    gradients = [torch.autograd.grad(layer(a, s).square().sum(), a)[0] for layer in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("kind", nets.KINDS)
def test_every_kind_sees_trunk_and_context_except_the_gate_as_released(kind):
    torch.manual_seed(0)
    net = nets.Conditioned(kind, A, S, width=16, embedding=3).double()
    a, s = normal(B, A).requires_grad_(), normal(B, S).requires_grad_()
    out = net(a, s)
    assert out.shape == (B, 3)
    of_a, of_s = torch.autograd.grad(out.sum(), (a, s), allow_unused=True)
    assert of_a.abs().sum() > 0
    if kind == "gated_as_released":
        assert of_s is None
    else:
        assert of_s.abs().sum() > 0


def test_linear_layers_count_and_their_start():
    torch.manual_seed(0)
    for kind in ("concat_first", "film_full", "bilinear_first"):
        net = nets.Conditioned(kind, 3, 5, width=64)
        assert len(net.layers) == 3 and net.head.out_features == 32
    bound = 1 / math.sqrt(3)
    first = nets.Conditioned("bilinear_first", 3, 5, width=64).layers[0]
    for part in (first.weight, first.bias):
        assert 0.9 * bound < float(part.detach().abs().max()) <= bound
    with pytest.raises(UserError, match="did you mean film_last"):
        nets.Conditioned("film_lst", 3, 5)


def test_sigma_is_the_deviation_of_all_errors_of_pretraining_and_the_prior_never_moves():
    rnd = make_rnd()
    rnd.moments = type(rnd.moments)(count=0.0)
    before = copy.deepcopy(rnd.prior.state_dict())
    optimizers, seen = rnd.optimizers(), []
    for _ in range(5):
        batch = make_batch()
        s, a = (batch["s"] - 0.3) / 2.0, (batch["a"] + 0.1) / 0.5
        seen += [float(e) for e in rnd_error(rnd.predictor(a, s), rnd.prior(a, s)).detach()]
        rnd.update(batch, optimizers, G)
    mean = sum(seen) / len(seen)
    deviation = math.sqrt(sum((e - mean) ** 2 for e in seen) / len(seen))
    assert float(rnd.moments.std) == pytest.approx(deviation, rel=1e-5)
    for name, part in rnd.prior.state_dict().items():
        assert torch.equal(part, before[name])


def test_gradient_of_the_bonus_passes_through_the_predictor_alone_unless_asked():
    batch = make_batch()
    s, a = (batch["s"] - 0.3) / (2.0 + 1e-8), batch["a"].clone().requires_grad_()
    rnd = make_rnd()
    (got,) = torch.autograd.grad(rnd.bonus(batch["s"], a).sum(), a)
    scaled = (a + 0.1) / (0.5 + 1e-8)
    sigma = float(rnd.moments.std)
    prediction, prior = rnd.predictor(scaled, s), rnd.prior(scaled, s)
    residual = (2 / sigma * (prediction - prior)).detach()
    (expected,) = torch.autograd.grad((residual * prediction).sum(), a, retain_graph=True)
    torch.testing.assert_close(got, expected)
    (full,) = torch.autograd.grad((residual * (prediction - prior)).sum(), a)
    (asked,) = torch.autograd.grad(make_rnd(prior_gradient=True).bonus(batch["s"], a).sum(), a)
    assert not torch.allclose(asked, got)
    rnd.prior_gradient = True
    (on,) = torch.autograd.grad(rnd.bonus(batch["s"], a).sum(), a)
    torch.testing.assert_close(on, full)


def test_rescaling_sets_the_mean_bonus():
    rnd, batch = make_rnd(), make_batch()
    rnd.rescale(batch["s"], batch["a"], 3.0)
    assert rnd.bonus(batch["s"], batch["a"]).mean().item() == pytest.approx(3.0, rel=1e-5)


def adam_step(parameters, gradients, lr):
    """The first step of Adam, written down: m / (1 - b1) = g and v / (1 - b2) = g^2."""
    return [p - lr * g / (g.abs() + 1e-8) for p, g in zip(parameters, gradients, strict=True)]


def test_one_update_follows_the_released_order():
    """Actor; temperature; critic with the new actor and the old temperature; targets. In float64, by hand."""
    torch.manual_seed(0)
    lr, tau, gamma, weights = 1e-2, 0.1, 0.9, (1.5, 0.5)
    learner = SACRND(S, A, make_rnd(), *weights, width=8, depth=2, lr=lr, discount=gamma, tau=tau).double()
    reference, batch = copy.deepcopy(learner), make_batch(dtype=torch.float64)
    with torch.no_grad():
        learner.log_temperature.fill_(-0.5)
        reference.log_temperature.fill_(-0.5)
    temp = math.exp(-0.5)
    learner.update(batch, learner.optimizers(), torch.Generator().manual_seed(3))

    generator = torch.Generator().manual_seed(3)
    noise, next_noise = (torch.randn(B, A, generator=generator, dtype=torch.float64) for _ in range(2))

    def sample(s, noise):
        mu, log_std = reference.actor(s)
        policy = torch.distributions.Normal(mu, log_std.exp())
        u = mu + log_std.exp() * noise
        return torch.tanh(u), (policy.log_prob(u) - torch.log(1 - torch.tanh(u) ** 2)).sum(1)

    def bonus(s, a):
        s, a = (s - 0.3) / (2.0 + 1e-8), (a + 0.1) / (0.5 + 1e-8)
        gap = reference.rnd.predictor(a, s) - reference.rnd.prior(a, s).detach()
        return (gap**2).sum(1) / reference.rnd.moments.std

    a, log_prob = sample(batch["s"], noise)
    q = reference.critic(batch["s"], a)
    actor_loss = (temp * log_prob + weights[0] * bonus(batch["s"], a) - torch.minimum(q[0], q[1])).mean()
    parts = list(reference.actor.parameters())
    for p, new in zip(parts, adam_step(parts, torch.autograd.grad(actor_loss, parts), lr), strict=True):
        p.data.copy_(new)
    slope = temp * (-log_prob.mean().item() + A)
    log_temp = -0.5 - lr * math.copysign(1.0, slope)
    with torch.no_grad():
        next_a, next_log_prob = sample(batch["next_s"], next_noise)
        target_q = reference.target(batch["next_s"], next_a)
        ahead = torch.minimum(target_q[0], target_q[1]) - temp * next_log_prob
        ahead -= weights[1] * bonus(batch["next_s"], next_a)
        y = batch["r"] + gamma * (1 - batch["d"]) * ahead
    critic_loss = ((reference.critic(batch["s"], batch["a"]) - y) ** 2).mean(1).sum()
    parts, old = (
        list(reference.critic.parameters()),
        [p.detach().clone() for p in reference.critic.parameters()],
    )
    new_critic = adam_step(parts, torch.autograd.grad(critic_loss, parts), lr)

    def close(got, expected):
        torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-6)

    for got, expected in zip(learner.actor.parameters(), reference.actor.parameters(), strict=True):
        close(got, expected)
    assert float(learner.log_temperature) == pytest.approx(log_temp, abs=1e-7)
    for got, expected in zip(learner.critic.parameters(), new_critic, strict=True):
        close(got, expected)
    for got, before, after in zip(learner.target.parameters(), old, new_critic, strict=True):
        close(got, (1 - tau) * before + tau * after)


@pytest.mark.parametrize("kind", [SACRND, ActorOnly])
def test_the_bonus_is_frozen_and_each_loss_reaches_its_own_network_only(kind):
    torch.manual_seed(0)
    weights = {"actor_weight": 1.0, "critic_weight": 1.0} if kind is SACRND else {}
    learner = kind(S, A, make_rnd(), width=8, depth=2, **weights)
    before = copy.deepcopy(learner.rnd.state_dict())
    optimizers = learner.optimizers()
    for _ in range(3):
        learner.update(make_batch(), optimizers, G)
    for name, part in learner.rnd.state_dict().items():
        assert torch.equal(part, before[name]), name
    assert all(p.grad is None for p in learner.rnd.parameters())
    if kind is SACRND:
        networks = {
            name: copy.deepcopy(getattr(learner, name).state_dict()) for name in ("actor", "critic", "target")
        }
        s, a = make_batch()["s"], learner.actor.sample(make_batch()["s"], torch.zeros(B, A))
        optimizers[0].descend(learner.actor_loss(s, *a, torch.tensor(1.0)))
        for name, state in networks.items():
            same = [torch.equal(state[k], part) for k, part in getattr(learner, name).state_dict().items()]
            assert not any(same) if name == "actor" else all(same), name
    assert all(p.grad is None for p in learner.parameters())


def test_targets_start_as_a_copy_and_values_are_the_least():
    torch.manual_seed(0)
    learner = SAC(S, A, width=8)
    for one, other in zip(learner.target.parameters(), learner.critic.parameters(), strict=True):
        assert torch.equal(one, other) and not one.requires_grad
    batch = make_batch()
    values = learner.critic(batch["s"], batch["a"])
    assert torch.equal(learner.value(batch["s"], batch["a"]), torch.minimum(values[0], values[1]))


def test_delayed_actor_of_td3_bc():
    torch.manual_seed(0)
    learner = TD3BC(S, A, torch.zeros(S), torch.ones(S), width=8, delay=3)
    optimizers, before = learner.optimizers(), copy.deepcopy(learner.actor.state_dict())
    for step in range(1, 4):
        learner.update(make_batch(), optimizers, G)
        same = all(torch.equal(before[name], part) for name, part in learner.actor.state_dict().items())
        assert same == (step < 3)


def test_iql_never_asks_for_the_value_of_an_action_outside_the_data():
    torch.manual_seed(0)
    learner, batch = IQL(S, A, width=8), make_batch()
    asked = []
    for net in (learner.critic, learner.target):
        net.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    for net in (learner.critic, learner.target):
        net.least = lambda s, a, net=net: net(s, a).amin(0)
    learner.update(batch, learner.optimizers(), G)
    assert asked and all(torch.equal(a, batch["a"]) for a in asked)


def test_area_under_the_curve_by_loops():
    negatives, positives = torch.tensor([0.0, 1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 5.0])
    wins = sum((p > n) + 0.5 * (p == n) for p in positives.tolist() for n in negatives.tolist())
    assert auroc(negatives, positives) == pytest.approx(wins / 12)


@pytest.mark.parametrize("A", [1, 2, 3])
def test_minimiser_finds_the_bottom_of_a_bowl(A):
    g = torch.Generator().manual_seed(A)
    s = torch.rand(50, A, generator=g) - 0.5
    # The bottom lies at the state itself, the data's action beside it by a known vector.
    beside = 0.1 * torch.arange(1, A + 1)
    bowl = SimpleNamespace(bonus=lambda s, a: (a - s).square().sum(1))
    model = SimpleNamespace(learner=SimpleNamespace(rnd=bowl))
    data = SimpleNamespace(held=SimpleNamespace(observations=s, actions=s + beside))
    found = BonusMinimiser(points=64**A, rows=30)(model, data, None)
    # A grid of 64 lines is off by 1 / 63 at most.
    assert found["test/minimiser_mse"] == pytest.approx(float(beside.square().mean()), abs=2 * 0.3 / 63)
    exact = BonusMinimiser(points=3**A, rows=30)
    data.held.observations = torch.randint(-1, 2, (50, A), generator=g).float()
    data.held.actions = data.held.observations
    assert exact(model, data, None) == {"test/minimiser_mse": 0.0}
    assert exact(SimpleNamespace(learner=SimpleNamespace()), data, None) == {}


def test_field_of_a_bowl_points_to_its_middle_and_a_slope_away_from_it():
    centre = torch.tensor([[0.3, -0.4]]).repeat(5, 1)
    start, s = torch.rand(5, 2, generator=G) * 2 - 1, torch.zeros(5, 1)

    def bowl(s, a):
        return 1e-3 * (a - centre).square().sum(-1)

    torch.testing.assert_close(field.field_cosine(bowl, s, start, centre), torch.ones(5))
    assert (field.descend_bonus(bowl, s, start) - centre).abs().max() < 0.01
    ends = field.descend_bonus(lambda s, a: -a.sum(-1), s, start)
    torch.testing.assert_close(ends, torch.ones(5, 2))


def toy_data():
    generator = torch.Generator().manual_seed(5)
    s, a = torch.randn(64, S, generator=generator), torch.rand(64, A, generator=generator) * 2 - 1
    ends = torch.zeros(64, dtype=torch.bool)
    return Transitions(s, a, torch.randn(64, generator=generator), s.roll(1, 0), ends, ends)


@pytest.mark.parametrize("kind", ["sac_rnd", "td3_bc", "rnd"])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, kind):
    def make():
        torch.manual_seed(0)
        rnd = RND(S, A, **moments(), width=8, embedding=3)
        return {
            "rnd": lambda: rnd,
            "sac_rnd": lambda: SACRND(S, A, rnd, 1.0, 1.0, width=8, depth=2),
            "td3_bc": lambda: TD3BC(S, A, torch.zeros(S), torch.ones(S), width=8),
        }[kind]()

    whole, _ = check_resuming(tmp_path, make, ReplaySampler(toy_data(), 8, 5, 1))
    stored, meta = load_tensors(tmp_path / "cut" / "learner.safetensors", None)
    assert stored.keys() == whole.state_dict().keys() and meta["history"] == whole.history


def test_published_settings_are_what_the_paper_scale_carries():
    ((_, config, _, _),) = split(compose(["paper=sac_rnd", "scale=paper", "arm=sac_rnd"]))
    arm = config["procedure"]
    assert config["trainer"]["max_epochs"] == 3000 and arm["updates"] == 1000 and arm["batch_size"] == 1024
    assert arm["rnd"]["lr"] == 3e-4 and arm["learner"]["lr"] == 1e-3 and arm["learner"]["width"] == 256
    assert arm["bonus_weight"] is None and arm["rnd_epochs"] * arm["rnd_updates"] == 1000
    assert arm["published"]["hopper-medium"] == 25.0 and len(arm["published"]) == 24


def test_wrong_options_and_wrong_data_end_in_one_sentence(folders):
    with pytest.raises(UserError, match=r"learner.widht is not an option"):
        run(["paper=sac_rnd", "scale=smoke", "arm=sac", "+rl.sac.widht=3", *folders])
    (record,) = run(["paper=sac_rnd", "scale=smoke", "arm=bc", "data=synthetic", *folders])
    assert record["status"] == "failed" and "set data=pendulum_logged" in record["reason"]


def test_bonus_weights_are_looked_up_by_the_name_of_the_data():
    def weights(label, given=None):
        procedure = AntiExploration(None, None, given, {"hopper-medium": 25.0, "antmaze-umaze": [1.0, 0.1]})
        ctx = SimpleNamespace(plan=SimpleNamespace(arm="sac_rnd"))
        return procedure._weights(ctx, SimpleNamespace(label=label))

    assert weights("hopper-medium") == (25.0, 25.0) and weights("antmaze-umaze") == (1.0, 0.1)
    assert weights("hopper-medium", 3) == (3.0, 3.0) and weights("anything", [2.0, 1.0]) == (2.0, 1.0)
    with pytest.raises(
        UserError, match=r"no bonus weight is published for hopper-medum \(did you mean hopper-medium"
    ):
        weights("hopper-medum")


class Drawn(gymnasium.Env):
    """Its picture's grey is the number of its steps; it ends after seven."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 0.0, self.steps == 7, False, {}

    def render(self):
        return np.full((4, 2, 3), self.steps, np.uint8)


def test_strip_shows_an_episode_and_is_absent_with_a_word_where_nothing_can_be_drawn(tmp_path, caplog):
    def policy(s):
        return torch.zeros(len(s), 1)

    gymnasium.register("test/Drawn-v0", Drawn)
    try:
        spec = EnvSpec("test/Drawn-v0")
        shown = strip.frames(policy, spec, 5, 2, 0)
        assert [int(frame[0, 0, 0]) for frame in shown] == [0, 2, 4, 6]
        assert strip.write_strip(tmp_path / "strip.png", policy, spec, 5, 2, 0)
    finally:
        gymnasium.registry.pop("test/Drawn-v0")
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.size == (4 * 80, 160) and picture.getpixel((319, 0)) == (6, 6, 6)
    blind = EnvSpec("distillery/Pendulums", {"count": 1})
    assert not strip.write_strip(tmp_path / "none.png", policy, blind, 5, 2, 0)
    assert not (tmp_path / "none.png").exists() and "draws no pictures" in caplog.text


def test_arms_share_a_pretrained_bonus_and_it_is_what_they_would_make_alone(folders):
    asked = ["paper=sac_rnd", "scale=smoke", *folders]
    together = run([*asked, "arm=[sac_rnd,sac_rnd_huge]"])
    assert "rnd" in together[0]["costs"] and "rnd" not in together[1]["costs"]
    (alone,) = run([*asked, "arm=sac_rnd_huge", "force=true"])
    assert "rnd" in alone["costs"] and alone["metrics"] == together[1]["metrics"]


def test_second_actor_sees_a_bonus_of_the_asked_size(folders):
    (record,) = run(["paper=sac_rnd", "scale=smoke", "arm=actor_concat_gated", *folders])
    metrics = record["metrics"]
    names = [name for name in metrics if name.startswith("test/") and not name.endswith("_equal")]
    assert names and all(f"{name}_equal" in metrics for name in names)
    # Of held-out states and other uniform actions, so only about.
    assert metrics["test/bonus_uniform_equal"] == pytest.approx(2.0, rel=0.2)
    assert metrics["test/bonus_ratio_equal"] == pytest.approx(metrics["test/bonus_ratio"], rel=1e-4)
