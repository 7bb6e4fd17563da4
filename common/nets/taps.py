"""Taps: named activations of any network, captured without changing the network.

A tap is an alias of the network (its ``aliases`` attribute: ``stage1``, ``penultimate``, ...) or the path of
a module in it; with ``:in`` at the end it means the module's first input, else the module's output.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from common.core.outputs import Outputs

_INPUT = ":in"


def resolve(net: nn.Module, alias: str) -> tuple[nn.Module, bool]:
    """The module that an alias or a path names, and whether its input is meant rather than its output.

    Raises:
        ValueError: if there is no such alias and no such module; names the nearest ones.
    """
    aliases: Mapping[str, str] = getattr(net, "aliases", {})
    path = aliases.get(alias)
    if path is None:
        base = alias.removesuffix(_INPUT)
        path = aliases.get(base, base).removesuffix(_INPUT) + alias[len(base) :]
    modules = dict(net.named_modules())
    # The empty path is the network itself, whose output is no feature.
    module = modules.get(path.removesuffix(_INPUT)) if path.removesuffix(_INPUT) else None
    if module is None:
        known = [*aliases, *(name for name in modules if name and name not in aliases)]
        near = difflib.get_close_matches(alias, known, n=4, cutoff=0.5) or known[:8]
        raise ValueError(f"{type(net).__name__} has no tap {alias!r}; the nearest are {', '.join(near)}.")
    return module, path.endswith(_INPUT)


class TappedNet(nn.Module):
    """A network that returns ``Outputs``: logits, and the activations that ``taps`` names.

    ``forward`` takes what the network takes. With ``mean`` and ``std`` (one number a channel) the first input
    is taken as images in [0, 1], [B, channels, H, W], and normalised inside. The state dict to save is that
    of ``.net``.

    Hooks live for one forward pass only: nothing stays on the network between calls, so copies, pickles and
    several wrappers of one network do not disturb each other. ``features`` has the order of ``taps``; a
    module that runs several times in a pass gives its last value. Where there are taps, ``inplace`` flags of
    the network's modules are turned off (results stay the same), because an in-place ReLU would overwrite a
    captured tensor; overwriting that no flag controls is detected and raised.
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        taps: Mapping[str, str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.set_taps(taps or {})
        self._normalises = mean is not None or std is not None
        # Constants of the configuration, not state: they stay out of checkpoints.
        self.register_buffer("mean", None, persistent=False)
        self.register_buffer("std", None, persistent=False)
        if self._normalises:
            if mean is None or std is None or len(mean) != len(std) or min(std) <= 0:
                raise ValueError(
                    f"mean and std go together, one positive std a channel; got {mean} and {std}."
                )
            anchor = next(net.parameters(), torch.empty(0))
            self.mean = torch.tensor(list(mean), device=anchor.device).view(-1, 1, 1)
            self.std = torch.tensor(list(std), device=anchor.device).view(-1, 1, 1)

    def set_taps(self, taps: Mapping[str, str]) -> None:
        """Replaces the taps; one network can serve methods that look at different activations."""
        self.taps = dict(taps)
        self._points = [(name, *resolve(self.net, alias)) for name, alias in self.taps.items()]
        if self._points:
            for module in self.net.modules():
                if getattr(module, "inplace", False) is True:
                    module.inplace = False

    def forward(self, *inputs: Any) -> Outputs:
        """Inputs of the network -> ``Outputs`` with logits [B, C] and the tapped features."""
        if self._normalises:
            inputs = ((inputs[0] - self.mean) / self.std, *inputs[1:])
        if self._points:
            logits, features = self._captured(inputs)
        else:
            logits, features = self.net(*inputs), {}
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"{type(self.net).__name__} returned a {type(logits).__name__}, but a network has to return "
                "its logits as one tensor."
            )
        return Outputs(logits, features)

    def _captured(self, inputs: tuple[Any, ...]) -> tuple[Any, dict[str, Tensor]]:
        features: dict[str, Any] = dict.fromkeys(self.taps)
        versions: dict[str, int] = {}
        handles = []
        try:
            for name, module, of_input in self._points:
                if of_input:
                    hook = partial(_keep_input, features, versions, name)
                    handles.append(module.register_forward_pre_hook(hook))
                else:
                    hook = partial(_keep_output, features, versions, name)
                    handles.append(module.register_forward_hook(hook))
            logits = self.net(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        for name, feature in features.items():
            if feature is None:
                raise RuntimeError(
                    f"{type(self.net).__name__} did not run the module of tap {name!r} ({self.taps[name]})."
                )
            if _version(feature) != versions[name]:
                raise RuntimeError(
                    f"{type(self.net).__name__} overwrites tap {name!r} ({self.taps[name]}) in place after "
                    "it was captured; tap a later module."
                )
        return logits, features


def tap(net: nn.Module, taps: Mapping[str, str] | None = None) -> TappedNet:
    """Wraps ``net``, normalised by its own ``mean`` and ``std`` where it has them (pretrained networks)."""
    return TappedNet(net, taps, getattr(net, "mean", None), getattr(net, "std", None))


def _keep_input(
    features: dict[str, Any], versions: dict[str, int], name: str, module: nn.Module, args: tuple[Any, ...]
) -> None:
    _keep_output(features, versions, name, module, args, args[0] if args else None)


def _keep_output(
    features: dict[str, Any], versions: dict[str, int], name: str, module: nn.Module, _: Any, value: Any
) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"Tap {name!r} met a {type(value).__name__} at a {type(module).__name__}, but needs one tensor."
        )
    features[name] = value
    versions[name] = _version(value)


def _version(tensor: Tensor) -> int:
    # Inference tensors keep no version, so that there is nothing to compare.
    return -1 if tensor.is_inference() else tensor._version
