"""Networks on (s, a) in which one input, the context, conditions the other, the trunk.

Four linear layers with ReLU between them, whatever the kind; ``first``, ``last`` and ``full`` say which of the hidden
layers are conditioned. With W h + b the layer's own product and c the context:

| kind       | a conditioned hidden layer                                                       |
|------------|----------------------------------------------------------------------------------|
| `concat`   | relu(W [h, c] + b)                                                               |
| `film`     | relu(gamma * (W h + b) + beta), (gamma, beta) = V c + v: no "1 +" before gamma   |
| `bilinear` | relu(sum_ij h_i W_kij c_j + b_k), no terms in h or c alone                       |
| `gated`    | tanh(W h + b) * sigmoid(V c + v), first layer only                               |
| `gated_as_released` | the same with V h: the gate of the released code reads the trunk twice and never sees c |

Weights and biases are uniform in +-1/sqrt(inputs); inputs of a bilinear layer are those of h, of V those of c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from common.errors import UserError, nearest
from common.nets.actor_critic import uniform_linear

_PLACES = ("first", "last", "full")
KINDS = (
    *(f"{how}_{place}" for how in ("concat", "film", "bilinear") for place in _PLACES),
    "gated",
    "gated_as_released",
)


class Bilinear(nn.Module):
    """y_k = sum_ij h_i W_kij c_j + b_k for h [B, H] and c [B, C], as [B, K].

    One product with the flattened outer product: ten times as fast as ``torch.nn.functional.bilinear`` on a CPU.
    """

    def __init__(self, trunk: int, context: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(trunk)
        self.weight = nn.Parameter(torch.empty(outputs, trunk, context).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """See the class."""
        outer = (h[:, :, None] * c[:, None, :]).flatten(1)
        return nn.functional.linear(outer, self.weight.flatten(1), self.bias)


class Concat(nn.Module):
    """W [h, c] + b."""

    def __init__(self, trunk: int, context: int, outputs: int) -> None:
        super().__init__()
        self.linear = uniform_linear(trunk + context, outputs)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """[B, outputs] of h [B, trunk] and c [B, context]."""
        return self.linear(torch.cat((h, c), -1))


class FiLM(nn.Module):
    """gamma * (W h + b) + beta with gamma and beta linear in c."""

    def __init__(self, trunk: int, context: int, outputs: int) -> None:
        super().__init__()
        self.linear = uniform_linear(trunk, outputs)
        self.modulation = uniform_linear(context, 2 * outputs)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """[B, outputs] of h [B, trunk] and c [B, context]."""
        gamma, beta = self.modulation(c).chunk(2, -1)
        return torch.addcmul(beta, gamma, self.linear(h))


class Gated(nn.Module):
    """tanh(W h + b) * sigmoid(V c + v), or with V h where ``released``."""

    def __init__(self, trunk: int, context: int, outputs: int, released: bool) -> None:
        super().__init__()
        self.released = released
        self.feature = uniform_linear(trunk, outputs)
        self.gate = uniform_linear(trunk if released else context, outputs)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """[B, outputs] of h [B, trunk] and c [B, context]."""
        return torch.tanh(self.feature(h)) * torch.sigmoid(self.gate(h if self.released else c))


_LAYERS = {"concat": Concat, "film": FiLM, "bilinear": Bilinear}


class Conditioned(nn.Module):
    """Maps a trunk [B, H] and a context [B, C] to an embedding [B, K].

    Args:
        kind: one of ``KINDS``.
        trunk, context: H and C.
        width: of the hidden layers.
        embedding: K.
        depth: linear layers.

    Raises:
        UserError: there is no such kind.
    """

    def __init__(
        self, kind: str, trunk: int, context: int, width: int = 256, embedding: int = 32, depth: int = 4
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"prior or predictor={kind} is not known; {nearest(kind, KINDS)}")
        self.gated = kind.startswith("gated")
        how, _, place = kind.partition("_")
        hidden = depth - 1
        places = {"first": {0}, "last": {hidden - 1}, "full": set(range(hidden))}
        self.conditioned = {0} if self.gated else places[place]
        self.layers = nn.ModuleList()
        for i in range(hidden):
            inputs = width if i else trunk
            if i not in self.conditioned:
                layer: nn.Module = uniform_linear(inputs, width)
            elif self.gated:
                layer = Gated(inputs, context, width, released=place != "")
            else:
                layer = _LAYERS[how](inputs, context, width)
            self.layers.append(layer)
        self.head = uniform_linear(width, embedding)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """See the class."""
        for i, layer in enumerate(self.layers):
            h = layer(h, c) if i in self.conditioned else layer(h)
            if not (self.gated and i == 0):
                h = h.relu_()
        return self.head(h)
