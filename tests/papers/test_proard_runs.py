"""ProARD: wrong use in one sentence, and a run that was killed."""

import pytest

from common.attacks import PGD
from common.errors import UserError
from common.runner import run
from papers.proard.measures import Measures
from papers.proard.method import Phase
from papers.proard.procedure import phases_of
from papers.proard.search import search
from papers.proard.space import Space
from papers.proard.training import PhaseModule


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
