"""SAC-RND: what is measured and shown of a bonus and a policy, on made-up ones."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from common.envs import EnvSpec
from papers.sac_rnd import field, strip
from papers.sac_rnd.evaluators import BonusMinimiser, auroc

G = torch.Generator().manual_seed(0)


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
