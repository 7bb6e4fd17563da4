"""Sets logged from agents trained on the spot: options, storage, the expert of scores, and misses."""

import importlib
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import pytest
import torch
import yaml

from common.artifacts import load_tensors
from common.core.seeding import derive
from common.data.base import DataError
from common.data.offline import logged
from common.data.offline.logged import LogSettings, load_or_log
from common.data.offline.online import OnlineSettings
from common.envs import EnvSpec, run_episodes
from common.errors import UserError

logged_sets = importlib.import_module("common.data.offline.logged")
ROOT = Path(__file__).resolve().parent.parent.parent


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


def test_a_set_that_cannot_be_made_is_tried_once_a_command(tmp_path, monkeypatch):
    data, tried = logged(budget=200, evaluate_every=100, expert=1e6, width=8), []
    learn = logged_sets.learn
    monkeypatch.setattr(logged_sets, "learn", lambda settings: tried.append(1) or learn(settings))
    for _ in range(2):
        with pytest.raises(DataError, match=r"never reached|was never measured"):
            data.load(SimpleNamespace(root=tmp_path))
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"expert": 1.0}, "data.expert=1 within data.budget=200"), ({"medium": (1.0, 2.0)}, "between 1 and 2")],
)
def test_missed_thresholds_fail_loudly_and_leave_nothing(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load_or_log(LogSettings(tiny(**changes), "medium", 400), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


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
