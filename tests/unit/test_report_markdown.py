"""The overview of many settings, from hand-made results."""

from common.report.markdown import overview, render


def metric(*values):
    mean = sum(values) / len(values)
    return {"mean": mean, "std": 0.01, "low": 0.0, "high": 1.0, "values": dict(enumerate(values))}


def block(scale, words, arms, verdicts=()):
    return {
        "scale": scale,
        "overrides": words,
        "data": "made up, of two nodes",
        "objective": "test/top1",
        "baseline": "mlp",
        "columns": ["test/top1", "test/nowhere"],
        "arms": {
            name: {"seeds": [0, 1], "metrics": {"test/top1": metric(*v)}, "cpu_seconds": 1.0}
            for name, v in arms.items()
        },
        "teacher": {"seeds": [0, 1], "metrics": {"test/top1": metric(0.9, 0.8)}},
        "claims": [
            {
                "verdict": v,
                "kind": "order",
                "statement": "s",
                "metric": "m",
                "reason": "r",
                "seeds": 2,
                "source": "x",
            }
            for v in verdicts
        ],
    }


def test_overview_has_a_row_a_setting_and_a_column_an_arm():
    first = block(
        "paper", ["data=a"], {"mlp": (0.5, 0.7), "krd": (0.7, 0.9)}, ["confirmed", "confirmed", "refuted"]
    )
    second = block("paper", ["data=b"], {"mlp": (0.4, 0.6)})
    rows = overview([first, second]).splitlines()[2:]
    assert rows[0] == "| setting | data | teacher | mlp | krd | verdicts |"
    sd = "0.0100"
    assert rows[2] == (
        f"| `data=a` | made up | 0.8500 ± {sd} | 0.6000 ± {sd} | 0.8000 ± {sd} | 2 confirmed, 1 refuted |"
    )
    assert rows[3] == f"| `data=b` | made up | 0.8500 ± {sd} | 0.5000 ± {sd} |  |  |"


def test_settings_of_the_paper_scale_are_folded_where_there_are_several():
    small, paper = block("small", [], {"mlp": (0.5, 0.7)}), block("paper", ["data=a"], {"mlp": (0.5, 0.7)})
    one = render({"settings": [small, paper]})
    assert "<details>" not in one and "All settings" not in one
    two = render({"settings": [small, paper, block("paper", ["data=b"], {"mlp": (0.5, 0.7)})]})
    assert two.count("<details>") == 2 and two.startswith("**All settings")


def test_a_column_that_nobody_has_is_left_out():
    assert "nowhere" not in render({"settings": [block("small", [], {"mlp": (0.5, 0.7)})]})


def test_pictures_of_the_lowest_finished_seed_go_into_the_page(tmp_path):
    from PIL import Image

    from common import records
    from common.report.html import page
    from common.report.pictures import pictures

    for seed, status in ((0, "failed"), (1, "finished"), (2, "finished")):
        key = f"edges/small/cnn/s{seed}-abc"
        record = {"key": key, "status": status, "metrics": {}, "config": {}, "overrides": ["data=x"]}
        records.write(tmp_path / key / "record.json", record | {"arm": "cnn", "seed": seed})
        Image.new("L", (4, 4)).save(tmp_path / key / "sheet.png")
    found = pictures(tmp_path, "edges")
    assert [p.path.parent.name for p in found] == ["s1-abc"] and "seed 1" in found[0].label
    recipe = {"slug": "edges", "title": "t", "arxiv": "1", "family": "f"}
    assert "data:image/png;base64," in page([recipe], {}, {"edges": found})
    assert "<img" not in page([recipe], {})
