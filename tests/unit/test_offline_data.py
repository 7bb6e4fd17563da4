"""Offline sets: what is read, what is dropped, what is refused, and the batches drawn from them."""

import numpy as np
import pytest
import torch

from common.data.base import DataError
from common.data.offline import ReplaySampler, d4rl, minari
from common.data.offline.d4rl_file import from_flat
from common.data.offline.minari_sets import write_minari
from common.data.offline.reference import D4RL, Reference, domain_of, label_of
from common.data.offline.transitions import Transitions, checked
from common.envs import EnvSpec, collect


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
