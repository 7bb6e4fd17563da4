"""The rules of the repository, checked on its own text."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from common.claims import load_claims
from common.report.markdown import BEGIN, END, between, index, render, tally

ROOT = Path(__file__).resolve().parent.parent.parent
SLUGS = sorted(path.parent.name for path in ROOT.glob("papers/*/__init__.py"))
SOURCES = [p for folder in ("common", "papers", "scripts") for p in (ROOT / folder).rglob("*.py")] + [
    ROOT / "run.py"
]
TESTS = list((ROOT / "tests").rglob("*.py"))
HEADINGS = ["Idea", "What is reproduced", "Run it", "Results", "Implementation details", "Reference"]

# Low to high; a part imports from its own row or from rows above it.
LAYERS = [
    {"errors", "artifacts"},
    {"losses", "boundaries"},
    {"core"},
    {"graphs"},
    {"nets", "envs", "attacks"},
    {
        "data",
        "teachers",
        "evaluators",
        "methods",
        "nodes",
        "own_weights",
        "trained",
        "masking_marks",
        "zoo",
        "records",
        "claims",
        "claim_files",
    },
    {"plan", "training"},
    {"loggers", "run_context", "export"},
    {"procedures", "offline_rl", "online_rl", "preflight", "config"},
    {"display", "runner"},
    {"report"},
]
HYDRA_USERS = {"run.py", "common/runner.py", "common/config.py"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(part):
    return next(i for i, row in enumerate(LAYERS) if part in row)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_downwards(path):
    relative = path.relative_to(ROOT)
    names = set(imports(path))
    assert not [n for n in names if n.split(".")[0] == "pytorch_lightning"], "import lightning instead"
    if relative.as_posix() not in HYDRA_USERS:
        assert not [n for n in names if n.split(".")[0] == "hydra"]
    if relative.parts[0] == "common":
        assert not [n for n in names if n.split(".")[0] == "papers"]
        if (len(relative.parts) > 1 and relative.stem != "__init__") or len(relative.parts) > 2:
            own = layer(relative.parts[1].removesuffix(".py"))
            used = {n.split(".")[1] for n in names if n.startswith("common.")}
            assert not [part for part in used if layer(part) > own]
    if relative.parts[0] == "papers":
        slug = relative.parts[1]
        assert not [n for n in names if n.startswith("papers.") and n.split(".")[1] != slug]


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_one_idea_a_file(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_slugs_agree_everywhere():
    assert SLUGS
    assert sorted(p.stem for p in (ROOT / "conf/paper").glob("*.yaml")) == SLUGS
    # Each paper has a test file of its name; further ones add a subject to it.
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests/papers").glob("test_*.py")}
    assert tests >= set(SLUGS)
    assert all(f"{test}_".startswith(tuple(f"{slug}_" for slug in SLUGS)) for test in tests)


@pytest.mark.parametrize("slug", SLUGS)
def test_page_of_a_paper(slug):
    text = (ROOT / "papers" / slug / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == HEADINGS
    recipe = yaml.safe_load((ROOT / f"conf/paper/{slug}.yaml").read_text(encoding="utf-8"))["paper"]
    assert recipe["slug"] == slug
    assert recipe["arxiv"] in text


@pytest.mark.parametrize("slug", SLUGS)
def test_table_of_a_page_comes_from_its_results(slug):
    path = ROOT / "papers" / slug / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    text = (ROOT / "papers" / slug / "README.md").read_text(encoding="utf-8")
    assert between(text, BEGIN, END) == render(results), "run scripts/report.py"


@pytest.mark.parametrize("slug", SLUGS)
def test_results_cover_the_claims(slug):
    claims = load_claims(ROOT / "papers" / slug / "claims.yaml")
    path = ROOT / "papers" / slug / "results.json"
    if not path.exists():
        pytest.skip("not run yet")
    for block in json.loads(path.read_text(encoding="utf-8"))["settings"]:
        assert [c["id"] for c in block["claims"]] == [claim.id for claim in claims], "run scripts/report.py"
        assert {c["verdict"] for c in block["claims"]} <= {"confirmed", "inconclusive", "refuted", "not run"}


@pytest.mark.parametrize("slug", SLUGS)
def test_claims_name_arms_and_tests_that_exist(slug):
    recipe = yaml.safe_load((ROOT / f"conf/paper/{slug}.yaml").read_text(encoding="utf-8"))
    for claim in load_claims(ROOT / "papers" / slug / "claims.yaml"):
        assert set(claim.arms) <= {*recipe["arms"], "teacher"}, claim.id
        if claim.kind == "identity":
            file, name = claim.test.split("::")
            functions = [
                n.name for n in ast.parse((ROOT / file).read_text()).body if isinstance(n, ast.FunctionDef)
            ]
            assert name in functions, claim.id


def test_index_of_the_main_page_comes_from_recipes_and_results():
    recipes, verdicts = [], {}
    for slug in SLUGS:
        recipes.append(
            yaml.safe_load((ROOT / f"conf/paper/{slug}.yaml").read_text(encoding="utf-8"))["paper"]
        )
        path = ROOT / "papers" / slug / "results.json"
        verdicts[slug] = tally(json.loads(path.read_text(encoding="utf-8")) if path.exists() else None)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert between(text, "<!-- papers:begin -->", "<!-- papers:end -->") == index(recipes, verdicts)


def test_methods_stay_thin():
    for path in ROOT.glob("papers/*/method.py"):
        if path.parent.name != "self_distillation_kernel":
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 120, path
