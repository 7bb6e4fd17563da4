"""Composing configurations, splitting them into arms, and saying clearly what is wrong with them.

Importing this module must stay cheap: ``run.py --help`` and shell completion pass through here.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from common.errors import UserError, nearest

CONF = Path(__file__).resolve().parent.parent / "conf"
# A seed that no run has: resolving with it shows what a configuration is apart from its seed.
_NO_SEED = -(2**62)


def _by_scale(choices: DictConfig, *, _root_: DictConfig) -> Any:
    scale = _root_["scale"]
    if scale not in choices:
        raise UserError(f"this recipe says nothing for scale={scale}; {nearest(scale, choices.keys())}")
    return choices[scale]


def _table(path: str, *keys: Any, _root_: DictConfig) -> Any:
    node = OmegaConf.select(_root_, path)
    for depth, key in enumerate(keys):
        if not isinstance(node, DictConfig) or (key not in node and "default" not in node):
            row = ".".join(map(str, [path, *keys[:depth]]))
            known = node.keys() if isinstance(node, DictConfig) else []
            raise UserError(f"{row} has no entry {key} and no default; {nearest(str(key), map(str, known))}")
        node = node[key] if key in node else node["default"]
    return node


def register() -> None:
    """Makes the resolvers known; harmless when called again."""
    # ${table:hyper,cora,gcn,lr} looks up hyper.cora.gcn.lr; a key that is not there stands for "default".
    OmegaConf.register_new_resolver("table", _table, replace=True)
    OmegaConf.register_new_resolver("by_scale", _by_scale, replace=True)
    OmegaConf.register_new_resolver("scratch", tempfile.gettempdir, replace=True)


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration of one run, as ``run.py`` would see it.

    Raises:
        UserError: an override names nothing, or has a value that does not fit.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    register()
    previous = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="distillery"):
            try:
                return with_overrides(hydra_compose("config", list(overrides)), overrides)
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(explain(error, overrides)) from error
    finally:
        GlobalHydra.instance().hydra = previous


# Words on the command line that do not change what is compared.
_INCIDENTAL = (
    "paper=",
    "scale=",
    "seed=",
    "arm=",
    "force=",
    "logger",
    "paths.",
    "hydra",
    "views_gib=",
    "trainer.devices=",
    "trainer.accelerator=",
    "trainer.checkpoint_seconds=",
)


def with_overrides(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Notes in the configuration which of the overrides make it differ from the paper's recipe."""
    OmegaConf.set_readonly(config, False)
    config.overrides = sorted(w for w in overrides if not w.startswith(_INCIDENTAL))
    return config


def plain(config: DictConfig, without: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration with every interpolation resolved, as plain dictionaries and lists.

    Args:
        without: keys that are left out. They are not resolved, but others may refer to them.

    Raises:
        UserError: a mandatory value is missing or an interpolation leads nowhere.
    """
    try:
        resolved: dict[str, Any] = {}
        for key in sorted(set(config) - set(without), key=str):
            if OmegaConf.is_missing(config, key):
                raise UserError(f"{key} has no value; set {key}=<value>")
            value = config[key]
            if not OmegaConf.is_config(value):
                resolved[key] = value
                continue
            try:
                resolved[key] = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            except MissingMandatoryValue:
                missing = min(OmegaConf.missing_keys(value))
                raise UserError(f"{missing} has no value; set {missing}=<value>") from None
        return resolved
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error


def arms_of(config: DictConfig) -> list[str]:
    """Names of the arms that ``arm=`` selects.

    Raises:
        UserError: there is no such arm.
    """
    known = list(config.get("arms") or {})
    if not known:
        raise UserError(f"conf/paper/{config.paper.slug}.yaml lists no arms")
    wanted = config.arm
    if wanted == "all":
        return known
    wanted = list(wanted) if isinstance(wanted, ListConfig) else [wanted]
    for name in wanted:
        if name not in known:
            raise UserError(
                f"arm={name} is not an arm of {config.paper.slug}; {nearest(str(name), [*known, 'all'])}"
            )
    return [str(name) for name in wanted]


def split(config: DictConfig) -> Iterator[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """For each selected arm: its name, its resolved configuration, the same without a seed, and the unpatched one."""
    unseeded = config.copy()
    OmegaConf.set_readonly(unseeded, False)
    unseeded.seed = _NO_SEED
    base = config.copy()
    base.arms = {}
    unpatched = plain(base)
    for arm in arms_of(config):
        resolved = [_arm(version, arm) for version in (config, unseeded)]
        yield arm, resolved[0], resolved[1], unpatched


def _arm(config: DictConfig, arm: str) -> dict[str, Any]:
    base = config.copy()
    node = base.arms[arm]
    unknown = set(node) - {"method", "procedure", "patch"}
    if unknown:
        raise UserError(f"arms.{arm}.{min(unknown)} is not known; an arm has method, procedure and patch")
    patch = node.get("patch")
    OmegaConf.set_struct(base, False)
    base.method = node.get("method")
    if node.get("procedure"):
        base.procedure = node.procedure
    if patch:
        _refuse_unknown(base, patch, f"arms.{arm}.patch")
        base.merge_with(patch)
    # Resolving every arm for every arm would take minutes of parsing where there are many.
    return plain(base, without=("arms", "hydra"))


def _refuse_unknown(base: DictConfig, patch: DictConfig, where: str) -> None:
    for key in patch:
        if key not in base:
            raise UserError(
                f"{where}.{key} changes nothing that exists; {nearest(str(key), map(str, base.keys()))}"
            )
        value = patch._get_node(key)
        # Names of views are free, and a node with another target is checked against that one's signature.
        free = key == "views" or not isinstance(value, DictConfig) or "_target_" in value
        if not free and isinstance(base.get(key), DictConfig) and base[key]:
            _refuse_unknown(base[key], value, f"{where}.{key}")


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(config, DictConfig):
        for key in config:
            yield f"{prefix}{key}"
            node = config._get_node(key)
            if isinstance(node, DictConfig):
                yield from _keys(node, f"{prefix}{key}.")


def explain(error: BaseException, overrides: Sequence[str] = ()) -> str:
    """One sentence for an exception of Hydra or OmegaConf, with the nearest valid names."""
    text = str(error).strip()
    missing = re.search(r"You must specify '(\w+)'", text)
    if missing:
        group = missing[1]
        return f"{group}=<name> is missing; {nearest('', _options(group))}"
    found = re.search(r"(?:Could not find|Could not load) '([\w./-]+)/([\w.-]+)'", text)
    if found:
        group, name = found[1], found[2]
        return f"{group}={name} does not exist in conf/{group}; {nearest(name, _options(group))}"
    found = re.search(r"Could not override '([^']+)'", text)
    if found:
        known = _known_keys(overrides)
        parent = found[1].rpartition(".")[0]
        if f"{parent}._target_" in known:
            return (
                f"{found[1]} is not set by the recipe; write +{found[1]}=<value> to add an option of {parent}, or "
                f"{nearest(found[1], [key for key in known if key.startswith(parent)])}"
            )
        return f"{found[1]} is not a key of the configuration; {nearest(found[1], known)}"
    found = re.search(r"Missing mandatory value: ([\w.]+)", text)
    if found:
        return f"{found[1]} has no value; set {found[1]}=<value>"
    found = re.search(r"Interpolation key '([^']+)' not found", text)
    if found:
        return f"a value refers to {found[1]}, which does not exist"
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def choices() -> dict[str, list[str]]:
    """The options of every configuration group, for the help."""
    return {
        folder.name: sorted(_options(folder.name)) for folder in sorted(CONF.iterdir()) if folder.is_dir()
    }


def _options(group: str) -> list[str]:
    return [path.stem for path in (CONF / group).glob("*.yaml")]


def _known_keys(overrides: Sequence[str]) -> list[str]:
    choices = [
        w
        for w in overrides
        if re.match(r"(paper|scale|data|teacher|student|optim|logger|evaluators)=[\w]+$", w)
    ]
    try:
        return list(_keys(compose(choices)))
    except UserError:
        return []
