"""Random network distillation for exploration: bonus, streams, environment against independent computations."""

import itertools
import math

import pytest
import torch

from common.errors import UserError
from common.losses.on_policy import advantages, clipped_policy_loss, entropy
from common.methods.actor_critic.on_policy import Rollout, mean_return, minibatches
from common.runner import run
from papers.rnd.agent import RandomAgent, RNDAgent
from papers.rnd.env import Rooms, floor
from papers.rnd.method import discounted_past, rnd_advantage, rnd_error, rnd_loss, whiten
from papers.rnd.nets import Distillation
from papers.rnd.toy import rare_digit
from tests.resuming import check_resuming

T, N, K = 7, 3, 4
G = torch.Generator().manual_seed(0)
SIZES = {"steps": 8, "width": 8, "embedding": 4, "parts": 2, "epochs": 1, "warm_up": 5}


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def agent(env=None, seed=0, **options):
    torch.manual_seed(seed)
    return RNDAgent(Rooms(N, rooms=2, size=3, limit=9) if env is None else env, **{**SIZES, **options})


def loop_advantages(rewards, values, goes_on, gamma, lam):
    """Sums of discounted errors, written from the definition: no recursion."""
    result = torch.zeros_like(rewards)
    steps, copies = rewards.shape
    for n, t in itertools.product(range(copies), range(steps)):
        factor = 1.0
        for k in range(t, steps):
            ahead = float(values[k + 1, n]) if goes_on[k, n] else 0.0
            delta = float(rewards[k, n]) + gamma * ahead - float(values[k, n])
            result[t, n] += factor * delta
            if not goes_on[k, n]:
                break
            factor *= gamma * lam
    return result


def test_advantages_equal_the_sums_of_the_definition():
    rewards, values = normal(T, N), normal(T + 1, N)
    goes_on = torch.rand(T, N, generator=G) > 0.3
    for flags in (goes_on, torch.ones_like(goes_on)):
        got = advantages(rewards, values, flags.double(), 0.9, 0.8)
        torch.testing.assert_close(got, loop_advantages(rewards, values, flags, 0.9, 0.8))
    whole = advantages(rewards, values, torch.ones(T, N), 0.9, 1.0)[0] + values[0]
    by_hand = sum(0.9**t * rewards[t] for t in range(T)) + 0.9**T * values[T]
    torch.testing.assert_close(whole, by_hand)


def test_targets_of_both_heads_by_explicit_loops():
    learner = agent(
        discount=0.95, intrinsic_discount=0.7, extrinsic_weight=2.0, intrinsic_weight=1.0
    ).double()
    learner.seen.update(torch.rand(50, learner.env.state_dim, generator=G))
    s = torch.rand(T + 1, N, learner.env.state_dim, generator=G, dtype=torch.float64)
    ends = torch.rand(T, N, generator=G) > 0.7
    rollout = Rollout(
        s, s[1:], torch.zeros(T, N, dtype=torch.int64), normal(T, N), normal(T, N), ends, ends & False
    )
    values = learner.net(s)[1].detach()
    mean, std = learner.seen.mean.clone(), learner.seen.std.clone()
    advantage, targets, paid = learner._targets(rollout)
    x = ((s[1:] - mean) / std).clamp(-5, 5)
    novelty = (learner.rnd.predictor(x) - learner.rnd.target(x)).square().sum(-1).detach() / 4
    past = [[0.0] * N]
    for t in range(T):
        past.append([0.7 * past[-1][n] + float(novelty[t, n]) for n in range(N)])
    flat = [value for row in past[1:] for value in row]
    # The moments start as 1e-4 samples of mean 0 and variance 1.
    total = len(flat) + 1e-4
    centre = sum(flat) / total
    variance = (sum((v - centre) ** 2 for v in flat) + 1e-4 * (1 + centre**2)) / total
    torch.testing.assert_close(paid, novelty / math.sqrt(variance))
    extrinsic = loop_advantages(rollout.reward, values[..., 0], ~ends, 0.95, 0.95)
    intrinsic = loop_advantages(paid, values[..., 1], torch.ones_like(ends), 0.7, 0.95)
    torch.testing.assert_close(advantage, 2 * extrinsic + intrinsic, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(targets[..., 0], extrinsic + values[:-1, :, 0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(targets[..., 1], intrinsic + values[:-1, :, 1], rtol=1e-5, atol=1e-7)
    episodic = agent(episodic=True, intrinsic_discount=0.7).double()
    episodic.load_state_dict(learner.state_dict())
    _, ending, paid = episodic._targets(rollout)
    by_hand = loop_advantages(paid, values[..., 1], ~ends, 0.7, 0.95)
    torch.testing.assert_close(ending[..., 1], by_hand + values[:-1, :, 1], rtol=1e-5, atol=1e-7)


def test_filter_is_the_discounted_prefix_sum_over_time():
    novelty, before = normal(T, N).abs(), normal(N).abs()
    got = discounted_past(novelty, before, 0.8)
    for t, n in itertools.product(range(T), range(N)):
        by_hand = 0.8 ** (t + 1) * before[n] + sum(0.8 ** (t - j) * novelty[j, n] for j in range(t + 1))
        assert float(got[t, n]) == pytest.approx(float(by_hand))
    halves = discounted_past(novelty[:3], before, 0.8)
    torch.testing.assert_close(discounted_past(novelty[3:], halves[-1], 0.8), got[3:])


def test_dividing_makes_the_bonus_independent_of_its_scale():
    novelty, one, other = normal(T, N).abs(), agent(), agent()
    # The moments start from a ten-thousandth of a sample.
    torch.testing.assert_close(
        one.intrinsic_rewards(novelty), other.intrinsic_rewards(100 * novelty), rtol=1e-3, atol=0
    )
    plain = agent(normalises=False)
    assert torch.equal(plain.intrinsic_rewards(novelty), novelty)


def test_error_loss_and_whitening_written_out():
    prediction, target = normal(5, K), normal(5, K)
    errors = rnd_error(prediction, target)
    by_hand = [sum(float(prediction[b, k] - target[b, k]) ** 2 for k in range(K)) / K for b in range(5)]
    assert errors.tolist() == pytest.approx(by_hand)
    kept = torch.tensor([1, 0, 1, 1, 0], dtype=torch.float64)
    assert float(rnd_loss(errors, kept)) == pytest.approx((by_hand[0] + by_hand[2] + by_hand[3]) / 3)
    assert float(rnd_loss(errors, torch.zeros(5))) == 0
    s, mean, std = normal(5, 2), torch.tensor([1.0, 0.0]), torch.tensor([0.1, 10.0])
    for b, j in itertools.product(range(5), range(2)):
        x = min(5, max(-5, (float(s[b, j]) - float(mean[j])) / float(std[j])))
        assert float(whiten(s, mean, std)[b, j]) == pytest.approx(x, rel=1e-6)
    assert rnd_advantage(torch.tensor(3.0), torch.tensor(5.0)) == 11


def test_gradient_of_the_predictor_by_finite_differences_and_none_to_the_target():
    torch.manual_seed(0)
    net, x = Distillation(3, 5, 2).double(), normal(4, 3)
    net(x).mean().backward()
    assert all(p.grad is None for p in net.target.parameters())
    weight, step = net.predictor[0].weight, 1e-6
    for index in ((0, 0), (4, 2)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[index] += sign * step
                values.append(float(net(x).mean()))
                weight[index] -= sign * step
        assert float(weight.grad[index]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)
    assert sum(isinstance(m, torch.nn.Linear) for m in net.predictor) == 5
    assert sum(isinstance(m, torch.nn.Linear) for m in net.target) == 3


def test_policy_loss_and_entropy_by_loops():
    log_prob, before, advantage = normal(6), normal(6), normal(6)
    total = 0.0
    for b in range(6):
        ratio = math.exp(float(log_prob[b] - before[b]))
        a = float(advantage[b])
        total -= min(ratio * a, min(1.2, max(0.8, ratio)) * a) / 6
    assert float(clipped_policy_loss(log_prob, before, advantage, 0.2)) == pytest.approx(total)
    p = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    by_hand = -sum(float(x) * math.log(float(x)) for x in p)
    assert float(entropy(p.log() + 3)) == pytest.approx(by_hand)


def test_a_first_update_of_the_policy_follows_the_advantage():
    """At equal policies the gradient of the clipped loss is that of -mean(A log pi)."""
    logits = normal(6, 4).requires_grad_()
    action, advantage = torch.arange(6) % 4, normal(6)
    log_prob = logits.log_softmax(-1).gather(1, action[:, None])[:, 0]
    loss = clipped_policy_loss(log_prob, log_prob.detach(), advantage, 0.1)
    (got,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(advantage * log_prob).mean(), logits)
    torch.testing.assert_close(got, expected)


def test_rooms_by_hand():
    """Two by two rooms of three by three cells: rows of text, walls as #."""
    drawn = ["...#...", ".......", "...#...", "#.###.#", "...#...", ".......", "...#..."]
    free = torch.tensor([[cell == "." for cell in row] for row in drawn])
    assert torch.equal(floor(2, 3), free)
    env = Rooms(1, rooms=2, size=3, limit=50)
    nothing = torch.zeros(1, 0, dtype=torch.float64)
    path = "lluurrrdrrrr"  # into two walls, along the top, against the wall, through the door, against the border
    x = y = 0
    for letter in path:
        dx, dy = {"u": (0, -1), "d": (0, 1), "l": (-1, 0), "r": (1, 0)}[letter]
        if 0 <= x + dx < 7 and 0 <= y + dy < 7 and drawn[y + dy][x + dx] == ".":
            x, y = x + dx, y + dy
        step = env.step(torch.tensor(["udlr".index(letter)]), nothing)
        assert not step.ended and float(step.reward) == 0
        assert env.observe().argmax(1).item() == x and env.observe()[0, 7:].argmax().item() == y
        assert torch.equal(step.reached, env.observe())
    assert (x, y) == (6, 1)
    assert int(env.visits[0]) == 4 and int(env.visits.sum()) == len(path)
    assert env.times_seen(env.observe()).item() == int(env.visits[1 * 7 + 6])
    for letter in "lddddr":
        step = env.step(torch.tensor(["udlr".index(letter)]), nothing)
    assert not step.ended
    step = env.step(torch.tensor([1]), nothing)
    assert bool(step.terminated) and not bool(step.truncated) and float(step.reward) == 1
    assert step.reached[0].nonzero().flatten().tolist() == [6, 13]
    assert env.observe()[0].nonzero().flatten().tolist() == [0, 7] and int(env.clock) == 0
    for t in range(50):
        step = env.step(torch.tensor([0]), nothing)
        assert bool(step.truncated) == (t == 49) and not bool(step.terminated)
    assert env.coverage == pytest.approx(int((env.visits > 0).sum()) / int(free.sum()))


class Goer(RandomAgent):
    """Goes right, or down where it stands in the last column."""

    def logits(self, s):
        length = s.shape[-1] // 2
        last = s[..., length - 1] > 0
        return torch.stack((0 * s[..., 0], 100.0 * last, 0 * s[..., 0], 100.0 * ~last), -1)


def test_rollouts_count_returns_over_their_borders():
    learner = Goer(Rooms(2, rooms=1, size=3, limit=9), steps=3)
    rollout = learner.collect(torch.Generator().manual_seed(0))
    assert rollout.action.tolist() == [[3, 3], [3, 3], [1, 1]] and float(learner.recent) == 0
    again = learner.collect(torch.Generator().manual_seed(0))
    assert again.reward.tolist() == [[1, 1], [0, 0], [0, 0]] and again.terminated[0].all()
    assert torch.equal(again.s[0], rollout.s[-1]) and float(learner.recent) == 1
    assert again.s[1, 0].nonzero().flatten().tolist() == [0, 3]
    assert again.reached[0, 0].nonzero().flatten().tolist() == [2, 5]
    assert mean_return(learner, Rooms(5, rooms=1, size=3, limit=9), torch.Generator().manual_seed(0)) == 1
    assert mean_return(learner, Rooms(5, rooms=1, size=3, limit=3), torch.Generator().manual_seed(0)) == 0


def test_minibatches_are_every_row_once_an_epoch():
    parts = list(minibatches(10, 3, 2, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(parts[:3]).tolist()) == list(range(10)) == sorted(torch.cat(parts[3:]).tolist())


def test_arms_differ_where_they_say():
    counting = agent(bonus="count")
    counting.env.visits[0], counting.env.visits[1] = 4, 25
    s = counting.env.codes[:2]
    assert counting.novelty(s).tolist() == pytest.approx([0.5, 0.2])
    none = agent(bonus="none")
    before = {name: p.clone() for name, p in none.rnd.state_dict().items()}
    none.update({}, none.optimizers(), torch.Generator().manual_seed(0))
    assert all(torch.equal(before[name], p) for name, p in none.rnd.state_dict().items())
    rnd = agent()
    frozen = {name: p.clone() for name, p in rnd.rnd.target.state_dict().items()}
    moving = rnd.rnd.predictor[0].weight.clone()
    rnd.update({}, rnd.optimizers(), torch.Generator().manual_seed(0))
    assert all(torch.equal(frozen[name], p) for name, p in rnd.rnd.target.state_dict().items())
    assert not torch.equal(moving, rnd.rnd.predictor[0].weight)
    # 5 steps of warm-up and 8 of the rollout, in 3 copies; the warm-up is no visit.
    assert float(rnd.seen.count) == pytest.approx(13 * 3, abs=1e-3) and int(rnd.env.visits.sum()) == 24
    raw = agent(whitens=False, input_factor=10.0)
    torch.testing.assert_close(raw.prepared(s), 10 * s)


@pytest.mark.parametrize("options", [{}, {"bonus": "count"}])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, options):
    whole, again = check_resuming(tmp_path, lambda: agent(kept=0.5, **options), [{}] * 3)
    loaded = again()
    assert loaded.history == whole.history and torch.equal(
        loaded.learner.env.visits, whole.learner.env.visits
    )


def test_digits_of_the_toy_are_disjoint_and_depend_on_the_seed():
    zeros, other = rare_digit(0)
    assert (
        zeros.shape == (178, 64)
        and other.shape == (182, 64)
        and 0 <= float(other.min()) <= float(other.max()) == 1
    )
    assert not torch.equal(rare_digit(9)[1], other) and torch.equal(rare_digit(0)[0], zeros)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rl.agent.bonus=rdn", "did you mean rnd"),
        ("rl.agent.kept=0.0", r"arms.rnd.procedure.learner: kept has to lie in \(0, 1\], not 0.0"),
        ("rl.agent.discount=1.0", r"discount has to lie in \[0, 1\), not 1.0"),
        ("rl.agent.steps=0", "steps has to be at least 1, not 0"),
        ("rl.env.rooms=0", "arms.rnd.procedure.env: rooms has to be at least 1, not 0"),
        ("rl.online.copies=0", "an environment needs at least 1 copy, not 0"),
    ],
)
def test_bad_input_gets_one_sentence(change, message, folders):
    with pytest.raises(UserError, match=message) as error:
        (record,) = run(["paper=rnd", "scale=smoke", "arm=rnd", change, *folders])
        raise UserError(record["reason"])
    assert "\n" not in str(error.value)
