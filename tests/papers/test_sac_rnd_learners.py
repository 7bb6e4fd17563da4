"""SAC-RND and the learners beside it: what an update moves and what it leaves alone; a learner that was killed."""

import copy

import pytest
import torch

from common.artifacts import load_tensors
from common.data.offline import ReplaySampler, Transitions
from common.methods.actor_critic import IQL, SAC, TD3BC
from papers.sac_rnd.actor_only import ActorOnly
from papers.sac_rnd.method import SACRND
from papers.sac_rnd.rnd import RND
from tests.papers.sac_rnd_parts import A, B, G, S, make_batch, make_rnd, moments
from tests.resuming import check_resuming


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
