"""Any network of timm, with aliases for its stages and its penultimate vector."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import nn


def timm_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Builds the timm model ``name``: [B, in_channels, H, W] -> logits [B, C].

    Args:
        pretrained: fetch the published weights; a head of another width is made anew.
        weights: local file with the published weights, in place of fetching them.
        options: further arguments of ``timm.create_model`` (``img_size``, ``drop_path_rate``, ...).

    The result has ``aliases``: ``stage1..N`` (and ``stem``) as timm lists the model's features, and
    ``penultimate``. With pretrained weights it also has ``mean`` and ``std``, the normalisation they expect.
    """
    # Takes seconds, and most runs need none of it.
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.4)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ValueError(f"timm has no model {name!r}{hint}.")
    if weights is not None:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"There is no weights file {weights} for the timm model {name!r}.")
        pretrained = True
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        net = timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels, **options
        )
    except OSError as error:
        if not pretrained:
            raise
        raise RuntimeError(
            f"The pretrained weights of the timm model {name!r} could not be fetched; "
            "give a local file as weights=<path>."
        ) from error
    net.aliases = _aliases(net)
    if pretrained:
        net.mean = _per_channel(net.pretrained_cfg["mean"], in_channels)
        net.std = _per_channel(net.pretrained_cfg["std"], in_channels)
    return net


def _aliases(net: nn.Module) -> dict[str, str]:
    modules = dict(net.named_modules())
    aliases: dict[str, str] = {}
    entries = [entry for entry in getattr(net, "feature_info", None) or [] if entry["module"] in modules]
    # In a flat network (VGG) the listed modules are activations throughout, and the first is no stem.
    has_stages = any(_has_layers(modules[entry["module"]]) for entry in entries)
    stages = 0
    for entry in entries:
        path = entry["module"]
        # Some models list what comes before the first stage as well: a stem, or the activation at its end.
        if "stem" in path or (not aliases and has_stages and not _has_layers(modules[path])):
            alias = "stem"
        else:
            stages += 1
            alias = f"stage{stages}"
        aliases[alias] = path + (":in" if entry.get("hook_type") == "forward_pre" else "")
    classifier = net.get_classifier() if hasattr(net, "get_classifier") else None
    # Models with two heads list both; the first sees the usual vector.
    first = classifier[0] if isinstance(classifier, tuple) else classifier
    for path, module in modules.items():
        if path and module is first:
            aliases["penultimate"] = f"{path}:in"
    return aliases


def _has_layers(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """timm folds the RGB weights of the first layer into other channel counts; the average serves all."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels
