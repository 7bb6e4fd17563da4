"""Gradient masking: tables and pages mark an arm that fails."""

import io
from itertools import product

from common import masking_marks


def record(arm, metrics, **more):
    return {"arm": arm, "status": "finished", "metrics": metrics, "costs": {}, "data": "digits", **more}


def test_table_marks_an_arm_and_names_the_checks(monkeypatch):
    from types import SimpleNamespace

    from common import display

    monkeypatch.setattr(display, "verdicts", lambda plans, runs: [])
    paper = {"objective": "test/pgd20", "baseline": "at"}
    plan = SimpleNamespace(config={"paper": paper}, slug="ltd", scale="small", seed=0)
    failing = {"masking/passed": 0.5, "masking/b_unbounded": 0.0, "masking/a_steps": 1.0}
    results = [
        record("at", {"test/pgd20": 0.5, "masking/passed": 1.0}),
        record("ltd", {"test/pgd20": 0.6, **failing}),
    ]
    out = io.StringIO()
    display.comparison([plan], results, None, out)
    text = out.getvalue()
    assert "ltd†" in text and "at†" not in text
    assert "†" in text.splitlines()[-1] and "ltd (b_unbounded)" in text
    results[1]["metrics"] |= {"masking/passed": 1.0, "masking/b_unbounded": 1.0}
    out = io.StringIO()
    display.comparison([plan], results, None, out)
    assert "†" not in out.getvalue()


def test_a_run_of_several_networks_is_marked_for_any_of_them():
    run = {"masking/passed_large": 0.5, "masking/d_square_large": 0.0, "masking/d_square_small": 1.0}
    # What a check measured is no verdict.
    run |= {"masking/f_pgd_small": 0.2, "masking/a_rise_small": 0.0, "test/pgd20_small": 0.1}
    assert masking_marks.failed([run]) == ["d_square"]
    assert masking_marks.failed([run | {"masking/d_square_large": 1.0}]) == []


def test_pages_mark_an_arm_that_fails_with_any_seed():
    from common.report.collect import summary
    from common.report.html import page
    from common.report.markdown import render

    def arm(*runs):
        return {
            "seeds": list(range(len(runs))),
            "metrics": {n: summary({s: r[n] for s, r in enumerate(runs) if n in r}) for n in runs[0]},
            "cpu_seconds": 1.0,
        }

    good = {"test/pgd20": 0.5, "masking/passed": 1.0, "masking/e_zero_gradient": 1.0, "masking/d_square": 1.0}
    bad = good | {"masking/passed": 0.5, "masking/e_zero_gradient": 0.0}
    block = {
        "scale": "small",
        "overrides": [],
        "data": "digits",
        "objective": "test/pgd20",
        "baseline": "at",
        "columns": ["test/pgd20"],
        "arms": {"at": arm(good, good), "ltd": arm(good, bad)},
        "teacher": arm(good),
        "claims": [],
    }
    results = {"slug": "ltd", "settings": [block]}
    recipe = {"slug": "ltd", "arxiv": "2111.02331", "title": "LTD", "family": "robust_kd"}
    for text in (render(results), page([recipe], {"ltd": results})):
        assert "ltd†" in text and "at†" not in text and "teacher†" not in text
        assert "ltd (e_zero_gradient)" in text
    for side, name in product(("masking/passed", "masking/e_zero_gradient"), ("1",)):
        block["arms"]["ltd"]["metrics"][side]["values"][name] = 1.0
    assert "†" not in render(results)
