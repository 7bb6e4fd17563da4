"""Graph papers as a user runs them: shared teachers, both settings, early stopping, and runs that were killed."""

import pytest
import torch

from common.core.distiller import Distiller
from common.core.selection import BestValidation
from common.runner import run
from common.teachers import Frozen

SHORT = [
    "paper=krd",
    "scale=small",
    "trainer.max_epochs=8",
    "trainer.checkpoint_seconds=0",
    "arms.krd.method.warmup=3",
    "student.hidden=16",
    "teacher.net.hidden=16",
    "logger=none",
]


@pytest.mark.parametrize("extra", [[], ["+arms.krd.method.update_every=3"]])
def test_a_killed_run_goes_on_bit_for_bit(folders, tmp_path, monkeypatch, extra):
    command = [*SHORT, *extra, "arm=krd"]
    (whole,) = run([*command, *folders])
    other = [f"paths.runs={tmp_path / 'other'}", f"paths.zoo={tmp_path / 'otherzoo'}"]
    begin = Distiller.on_train_epoch_start

    def killed(self):
        if self.teacher is not None and self.current_epoch == 5:
            raise RuntimeError("killed")
        begin(self)

    monkeypatch.setattr(Distiller, "on_train_epoch_start", killed)
    (failed,) = run([*command, *other])
    assert failed["status"] == "failed" and failed["reason"].endswith("killed")
    monkeypatch.undo()
    (resumed,) = run([*command, *other])
    assert resumed["metrics"] == whole["metrics"] and resumed["metrics"]["train/power"] != 1.0


def test_the_teacher_is_asked_once_for_all_arms_and_epochs(folders, monkeypatch):
    asked = []
    outputs = Frozen.outputs
    monkeypatch.setattr(Frozen, "outputs", lambda self, *args: asked.append(1) or outputs(self, *args))
    records = run([*SHORT, "arm=[glnn,krd,krd_all]", *folders])
    assert [r["status"] for r in records] == ["finished"] * 3
    # One record serves all; besides it, KRD measures its own noisy passes without this call.
    assert len(asked) == 1


def test_batches_of_both_kinds_take_teachers_rows(folders):
    records = run([*SHORT, "arm=[mlp,glnn]", "data.batch_size=256", *folders])
    assert {r["status"] for r in records} == {"finished"}, records[-1].get("reason")


def test_inductive_students_are_measured_on_unseen_nodes(folders):
    records = run([*SHORT, "setting=inductive", "arm=[mlp,krd]", *folders])
    assert {r["status"] for r in records} == {"finished"}, records[-1].get("reason")
    assert "inductive" in records[0]["data"]


def test_patience_ends_training_and_ties_reset_it():
    class Trainer:
        should_stop, current_epoch = False, 0

    class Module:
        device, history = torch.device("cpu"), []

    seen = []
    scores = [0.5, 0.75, 0.5, 0.75, 0.5, 0.5, 0.5]
    callback = BestValidation([], None, patience=2)
    trainer, module = Trainer(), Module()
    for epoch, score in enumerate(scores):
        right = round(score * 4)
        labels = torch.tensor([0] * right + [1] * (4 - right))
        callback._loader = [{"x": torch.zeros(4), "y": labels}]
        callback._method = type("M", (), {"inputs": staticmethod(lambda batch: (batch["x"],))})
        module.student = Zero()
        module.history = [{}]
        trainer.current_epoch = epoch
        callback.on_train_epoch_end(trainer, module)
        seen.append(trainer.should_stop)
        if trainer.should_stop:
            break
    assert seen == [False, False, False, False, False, True] and callback.best["epoch"] == 3
    resumed = Trainer()
    callback.on_train_start(resumed, module)
    assert resumed.should_stop


class Zero(torch.nn.Module):
    def forward(self, x):
        from common.core.outputs import Outputs

        return Outputs(torch.tensor([[1.0, 0.0]]).expand(len(x), 2))


def test_early_stopping_shortens_the_run(folders):
    (short,) = run([*SHORT, "trainer.max_epochs=60", "trainer.patience=2", "arm=mlp", *folders])
    assert short["status"] == "finished"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("selection=last", "set selection=best_val"),
        ("data=coraa", "data=coraa does not exist"),
        ("setting=induktive", "setting=induktive is not known; did you mean inductive"),
        ("data.train_per_class=400", "too few"),
        ("teacher.selection=test", "teacher.selection=test is not known"),
    ],
)
def test_wrong_words_end_in_a_sentence(folders, word, said):
    from common.errors import UserError

    with pytest.raises(UserError, match=said):
        run([*SHORT, word, *folders])


def test_the_authors_parameters_follow_data_setting_and_teacher():
    from common import config

    words = ["paper=krd", "scale=paper", "data=cora", "teacher=sage", "setting=inductive"]
    plain = config.plain(config.compose(words))
    assert (plain["student"]["layers"], plain["student"]["hidden"], plain["student"]["dropout"]) == (
        2,
        512,
        0.6,
    )
    assert plain["optim"]["optimizer"]["lr"] == 0.005 and plain["optim"]["optimizer"]["weight_decay"] == 1e-3
    assert plain["teacher"]["net"]["dropout"] == 0.5 and plain["teacher"]["optim"]["optimizer"]["lr"] == 0.01
    assert (
        plain["arms"]["krd"]["method"]["temperature"] == 0.8
        and plain["arms"]["krd"]["method"]["warmup"] == 49
    )
