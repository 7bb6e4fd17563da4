"""SAC-RND: its recipe, wrong use, and runs whose arms share a bonus."""

from types import SimpleNamespace

import pytest

from common.config import compose, split
from common.errors import UserError
from common.runner import run
from papers.sac_rnd.procedure import AntiExploration


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
