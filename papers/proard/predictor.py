"""A small network that guesses accuracy and robustness from an architecture's genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.core.seeding import derive
from common.errors import UserError


@dataclass(frozen=True)
class PredictorOptions:
    """Size and training of the predictor.

    Attributes:
        layers, width: hidden layers, and their width.
        epochs, batch_size, lr, weight_decay: of Adam.
    """

    layers: int = 6
    width: int = 400
    epochs: int = 50
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.epochs, self.batch_size) < 1 or not self.lr > 0:
            raise UserError(
                "the predictor needs layers, width, epochs and batch_size of at least 1, and lr above 0"
            )


class Predictor(nn.Module):
    """Multilayer perceptron with ReLU; each output is learned as the difference from its own ``base``.

    Args:
        inputs: D, length of a code.
        base: [2], mean clean and robust accuracy of the training architectures.
    """

    def __init__(self, inputs: int, base: Tensor, layers: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential()
        for i in range(layers):
            self.body.extend([nn.Linear(inputs if i == 0 else width, width), nn.ReLU()])
        self.body.append(nn.Linear(width, len(base)))
        self.register_buffer("base", base)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [N, D] -> clean and robust accuracy [N, 2]."""
        return self.body(codes) + self.base


def root_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """``sum_j sqrt(mean_i (p_ij - t_ij)^2)`` over outputs j, for [N, 2]."""
    # The root has no gradient at 0, which a batch of one known architecture reaches.
    return ((predicted - target).square().mean(0) + 1e-12).sqrt().sum()


def fit_predictor(codes: Tensor, target: Tensor, options: PredictorOptions, seed: int) -> Predictor:
    """Trains on codes [N, D] with accuracies [N, 2] in [0, 1]; a function of its arguments alone."""
    if len(codes) < 2 or len(codes) != len(target):
        raise UserError(
            f"a predictor learns from 2 architectures or more with their accuracies, not {len(codes)}"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(derive(seed, 0x6D6C70))
        net = Predictor(codes.shape[1], target.mean(0), options.layers, options.width)
    optimizer = torch.optim.Adam(net.parameters(), options.lr, weight_decay=options.weight_decay)
    for epoch in range(options.epochs):
        generator = torch.Generator().manual_seed(derive(seed, epoch, 0x6D6C70))
        for rows in torch.randperm(len(codes), generator=generator).split(options.batch_size):
            optimizer.zero_grad()
            root_mse(net(codes[rows]), target[rows]).backward()
            optimizer.step()
    return net.eval()


def rank_correlation(first: Sequence[float], second: Sequence[float], kind: str = "spearman") -> float:
    """Spearman's rho, or ``kendall``'s tau-b, of two lists; 0 where one of them is constant and has no order."""
    from scipy.stats import kendalltau, spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float((kendalltau if kind == "kendall" else spearmanr)(first, second).statistic)
