"""Offline sets: what is read, what is dropped, what is refused, and episodes of environments."""

import importlib
import importlib.util
import itertools
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml

from common.artifacts import load_tensors
from common.core.seeding import derive
from common.data.base import DataError
from common.data.offline import ReplaySampler, d4rl, logged, minari
from common.data.offline.d4rl_file import from_flat
from common.data.offline.logged import LogSettings, load_or_log
from common.data.offline.minari_sets import write_minari
from common.data.offline.online import OnlineSettings
from common.data.offline.reference import D4RL, Reference, domain_of, label_of
from common.data.offline.transitions import Transitions, checked
from common.envs import EnvSpec, collect, run_episodes
from common.envs.pendulums import Pendulums
from common.errors import UserError

logged_sets = importlib.import_module("common.data.offline.logged")
ROOT = Path(__file__).resolve().parent.parent.parent


class Counting(gymnasium.Env):
    """Ends by itself after 2 + seed-dependent steps when it is given actions above 0; pays its step number."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-3.0, 3.0, (1,), np.float32)

    def __init__(self, limit=5):
        self.limit = limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.last = int(self.np_random.integers(2, 4))
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.steps += 1
        ended = bool(action[0] > 0) and self.steps >= self.last
        return np.array([self.steps], np.float32), float(self.steps), ended, self.steps >= self.limit, {}


@pytest.fixture
def counting():
    gymnasium.register("test/Counting-v0", Counting)
    yield EnvSpec("test/Counting-v0")
    gymnasium.registry.pop("test/Counting-v0")


def flat(count=8, **changes):
    arrays = {
        "observations": np.arange(count * 2, dtype=np.float32).reshape(count, 2),
        "actions": np.zeros((count, 1), np.float32),
        "rewards": np.arange(count, dtype=np.float32),
        "terminals": np.zeros(count, bool),
        "timeouts": np.zeros(count, bool),
    }
    return arrays | changes


def rows_of_the_published_rule(arrays, limit=None):
    """The rule as a loop over steps."""
    kept, position = [], 0
    for i in range(len(arrays["rewards"]) - 1):
        final = arrays["timeouts"][i] if "timeouts" in arrays else position == limit - 1
        if final:
            position = 0
            continue
        kept.append(i)
        position = 0 if arrays["terminals"][i] else position + 1
    return kept


def test_flat_arrays_follow_the_published_rule():
    rng = np.random.default_rng(0)
    for trial in range(50):
        count = int(rng.integers(6, 40))
        arrays = flat(count, terminals=rng.random(count) < 0.2, timeouts=rng.random(count) < 0.2)
        limit = None
        if trial % 2:
            del arrays["timeouts"]
            limit = int(rng.integers(2, 6))
        kept = rows_of_the_published_rule(arrays, limit)
        if len(kept) < 2:
            continue
        data = from_flat(arrays, "here", limit)
        assert data.rewards.tolist() == kept
        assert data.next_observations[:, 0].tolist() == [2 * (i + 1) for i in kept]
        assert data.terminals.tolist() == arrays["terminals"][kept].tolist()
        # An episode's last kept step is marked, so that none runs into the next one.
        for row, i in enumerate(kept[:-1]):
            if kept[row + 1] != i + 1:
                assert data.timeouts[row] or data.terminals[row]


def test_own_next_observations_are_taken():
    following = np.full((8, 2), 7.0, np.float32)
    data = from_flat(flat(next_observations=following), "here")
    assert len(data) == 7 and (data.next_observations == 7).all()


def test_hdf5_file_by_its_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    count = 12
    path = tmp_path / "pen-tiny_v1.hdf5"
    arrays = flat(count, observations=np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32))
    with h5py.File(path, "w") as file:
        for name, part in arrays.items():
            file[name] = part
    with pytest.raises(DataError, match=r"set data.env="):
        d4rl(path=path.name, root=tmp_path)
    data = d4rl(path=path.name, env="Pendulum-v1", root=tmp_path)
    assert data.label == "pen-tiny" and len(data.transitions) == 11
    with pytest.raises(
        DataError, match=r"3 numbers a state and 1 an action.*has 9 and 3|is not known|distillery"
    ):
        d4rl(path=path.name, env="distillery/Pendulums", root=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not a complete HDF5"):
        d4rl(path=path.name, env="Pendulum-v1", root=tmp_path)
    with pytest.raises(DataError, match="neither at"):
        d4rl(path="elsewhere.hdf5", root=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rewards": np.array([0, 1, np.nan, 3, 4, 5, 6, 7], np.float32)},
            "rewards has a value that is not finite in step 2",
        ),
        ({"actions": np.full((8, 1), 1.5, np.float32)}, "rescale actions"),
        ({"terminals": np.zeros(5, bool)}, "differ"),
    ],
)
def test_unusable_arrays_end_in_one_sentence(changes, message):
    with pytest.raises(DataError, match=message):
        from_flat(flat(**changes), "here")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_empty_and_one_step_sets_are_refused(count):
    with pytest.raises(DataError, match="at least two are needed"):
        from_flat(flat(count), "here")


def test_minari_round_trip(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    spec = EnvSpec("Pendulum-v1")
    steps = collect(lambda s: s[:, :1] * 0.5, spec, 400, 2, 0)
    # A pendulum never ends by itself, so one end is made up.
    steps["terminals"][199], steps["timeouts"][199] = True, False
    data = checked(steps, "made here")
    write_minari(data, "test/pendulum-v0", spec, 1.0, 9.0, "a linear policy")
    back = minari(id="test/pendulum-v0")
    for name, part in data.as_dict().items():
        assert torch.equal(part, getattr(back.transitions, name)), name
    assert (back.reference.low, back.reference.high, back.env.id) == (1.0, 9.0, "Pendulum-v1")
    with pytest.raises(DataError, match="exists"):
        write_minari(data, "test/pendulum-v0", spec, 1.0, 9.0, "again")
    with pytest.raises(DataError, match="minari download test/other-v0"):
        minari(id="test/other-v0")
    with pytest.raises(DataError, match=r"3 numbers a state and 1 an action, but .* 9 and 3"):
        minari(id="test/pendulum-v0", env="distillery/Pendulums")


def test_collected_steps_are_whole_episodes_with_true_next_observations(counting):
    data = checked(collect(lambda s: torch.where(s < 2, 1.0, -1.0), counting, 60, 3, 1), "here")
    starts = [0, *((data.terminals | data.timeouts).nonzero()[:, 0] + 1).tolist()]
    assert starts[-1] == len(data) >= 60
    for begin, end in itertools.pairwise(starts):
        assert data.observations[begin:end, 0].tolist() == list(range(end - begin))
        assert data.next_observations[begin:end, 0].tolist() == list(range(1, end - begin + 1))
        assert bool(data.terminals[end - 1]) == (end - begin < 5)
    assert {b - a for a, b in itertools.pairwise(starts)} == {2, 5}
    per_episode = [sum(range(1, e - b + 1)) for b, e in itertools.pairwise(starts)]
    assert data.episode_returns().tolist() == per_episode


def test_episode_statistics_of_a_hand_made_episode(counting):
    episodes = run_episodes(lambda s: torch.full((len(s), 1), -0.1), counting, 3, seed=0, discount=0.5)
    assert episodes.lengths.tolist() == [5, 5, 5]
    assert episodes.returns.tolist() == [15.0] * 3
    assert episodes.discounted.tolist() == [1 + 2 / 2 + 3 / 4 + 4 / 8 + 5 / 16] * 3
    ending = run_episodes(lambda s: torch.full((len(s), 1), 0.1), counting, 40, seed=0)
    assert set(ending.lengths.tolist()) == {2, 3}
    assert [3.0 if n == 2 else 6.0 for n in ending.lengths.tolist()] == ending.returns.tolist()


def test_actions_are_rescaled(counting):
    env = counting.make()
    env.reset(seed=0)
    assert env.action_space.low.tolist() == [-1.0] and env.action_space.high.tolist() == [1.0]


def test_each_pendulum_moves_as_gymnasium_s():
    env, single = Pendulums(3), [gymnasium.make("Pendulum-v1") for _ in range(3)]
    env.reset(seed=0)
    for i, other in enumerate(single):
        other.reset(seed=0)
        other.unwrapped.state = np.array([env.angle[i], env.speed[i]])
    rng = np.random.default_rng(0)
    for step in range(200):
        torque = rng.uniform(-3, 3, 3).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(torque)
        parts = [other.step(torque[i : i + 1]) for i, other in enumerate(single)]
        np.testing.assert_allclose(observation, np.concatenate([p[0] for p in parts]), atol=1e-4)
        assert reward == pytest.approx(np.mean([p[1] for p in parts]), abs=1e-4)
        assert not terminated and truncated == parts[0][3] == (step == 199)


def test_environments_that_cannot_be_made():
    with pytest.raises(UserError, match="there is no environment Pendulum-v7"):
        EnvSpec("Pendulum-v7").make()
    with pytest.raises(UserError, match="bounded box"):
        EnvSpec("CartPole-v1").make()


def test_missing_physics_engine_is_one_sentence(monkeypatch):
    def missing(*_, **__):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(UserError, match=r"needs MuJoCo.*pip install 'gymnasium\[mujoco\]'"):
        EnvSpec("Hopper-v5").make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "medum"}, "did you mean medium"),
        ({"copies": 0}, "data.copies=0"),
        ({"copies": 2, "level": "full-replay"}, "holds one pendulum"),
        ({"size": 1}, "data.size=1"),
        ({"expert": -950.0}, "two rising returns"),
    ],
)
def test_options_of_logged_sets(options, message):
    with pytest.raises(DataError, match=message):
        logged(**options)


def tiny(**changes):
    options = {
        "medium": (-3000.0, -200.0),
        "expert": -1e4,
        "budget": 200,
        "evaluate_every": 100,
        "random_steps": 50,
    }
    options |= {"batch_size": 16, "width": 8, "evaluate_episodes": 2}
    return OnlineSettings(EnvSpec("Pendulum-v1"), **(options | changes))


def test_logged_sets_are_made_once_and_damage_is_noticed(tmp_path):
    settings = LogSettings(tiny(), "medium-expert", 400, copies=2)
    made = load_or_log(settings, tmp_path)
    assert len(made.transitions) == 800 and made.transitions.shapes == (6, 2)
    path = tmp_path / "offline" / f"{settings.key}.safetensors"
    stamp = path.stat().st_mtime_ns
    again = load_or_log(settings, tmp_path)
    assert path.stat().st_mtime_ns == stamp
    assert again.transitions.fingerprint == made.transitions.fingerprint
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.warns(UserWarning, match="damaged"):
        repaired = load_or_log(settings, tmp_path)
    assert repaired.transitions.fingerprint == made.transitions.fingerprint
    replay = load_or_log(LogSettings(tiny(), "medium-replay", 400), tmp_path)
    assert (
        len(replay.transitions)
        == load_tensors(next((tmp_path / "offline").glob("agent-*.safetensors")), None)[1]["medium_steps"]
    )


def test_the_expert_of_scores_acts_without_noise(monkeypatch, tmp_path):
    settings, seen = LogSettings(tiny(), "medium", 400), {}
    original = logged_sets._policy

    def spy(own, agent, level):
        seen[level] = (original(own, agent, level), agent)
        return seen[level][0]

    monkeypatch.setattr(logged_sets, "_policy", spy)
    made = load_or_log(settings, tmp_path)
    assert set(seen) == {"medium", "random", "greedy"}
    policy, agent = seen["greedy"]
    actor = settings.agent.learner().actor
    actor.load_state_dict(agent.expert)
    s = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(policy(s), actor.act(s)) and torch.equal(policy(s), policy(s))
    returns = run_episodes(policy, settings.env, 2, derive(0, logged_sets._EPISODES, 7)).returns
    assert made.expert_return == pytest.approx(float(returns.mean()), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"expert": 1.0}, "data.expert=1 within data.budget=200"), ({"medium": (1.0, 2.0)}, "between 1 and 2")],
)
def test_missed_thresholds_fail_loudly_and_leave_nothing(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load_or_log(LogSettings(tiny(**changes), "medium", 400), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_batches_are_a_function_of_seed_and_epoch():
    count = 50
    data = Transitions(
        torch.arange(count * 2.0).view(count, 2),
        torch.zeros(count, 1),
        torch.arange(count * 1.0),
        torch.arange(count * 2.0).view(count, 2) + 2,
        torch.arange(count) % 3 == 0,
        torch.zeros(count, dtype=torch.bool),
    )
    sampler = ReplaySampler(data, 16, 3, seed=1)
    first = [batch["r"] for batch in sampler]
    sampler.set_epoch(1)
    assert not torch.equal(torch.cat(first), torch.cat([batch["r"] for batch in sampler]))
    fresh = ReplaySampler(data, 16, 3, seed=1)
    for before, batch in zip(first, fresh, strict=True):
        assert torch.equal(before, batch["r"])
        index = batch["r"].long()
        assert torch.equal(batch["s"], data.observations[index])
        assert torch.equal(batch["next_s"], data.next_observations[index])
        assert torch.equal(batch["d"], data.terminals[index].float())


def test_names_say_domain_and_references():
    assert label_of("mujoco/hopper/medium-v0") == label_of("hopper_medium-v2.hdf5") == "hopper-medium"
    assert domain_of("antmaze-umaze") == "antmaze" and domain_of("something-else") is None
    assert Reference(*D4RL["hopper"]).score(3234.3) == pytest.approx(100.0)
    assert Reference(0.0, 4.0).score(1.0) == 25.0


def test_hopper_is_narrow_and_needs_its_engine(monkeypatch):
    options = yaml.safe_load((ROOT / "conf/data/hopper_logged.yaml").read_text(encoding="utf-8"))
    given = {name: value for name, value in options.items() if name != "defaults"}
    if importlib.util.find_spec("mujoco"):
        data = logged(**given)
        assert data.label == "hopper-narrow" and data.env.shapes == (11, 3)

    def missing(*_, **__):
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(UserError, match=r"Hopper-v5 needs MuJoCo.*pip install 'gymnasium\[mujoco\]'"):
        logged(**given)


def test_hopper_logs_whole_episodes_that_end_by_themselves_and_misses_fail(tmp_path):
    pytest.importorskip("mujoco")
    few = {"budget": 200, "evaluate_every": 100, "random_steps": 50, "batch_size": 16, "width": 8}
    agent = OnlineSettings(EnvSpec("Hopper-v5"), (-1e4, 1e4), -1e4, evaluate_episodes=2, **few)
    made = load_or_log(LogSettings(agent, "narrow", 400), tmp_path)
    assert made.transitions.shapes == (11, 3) and made.transitions.terminals.any()
    assert bool(made.transitions.terminals[-1] | made.transitions.timeouts[-1])
    agent = OnlineSettings(EnvSpec("Hopper-v5"), (-1e4, 1e4), 5000.0, evaluate_episodes=2, **few)
    with pytest.raises(DataError, match=r"Hopper-v5 never reached data.expert=5000 within data.budget=200"):
        load_or_log(LogSettings(agent, "narrow", 400), tmp_path)
