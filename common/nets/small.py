"""Small networks for 8x8 and 28x28 images: quick on a CPU, sized by width and depth."""

from __future__ import annotations

from torch import Tensor, nn

from common.nets.layers import conv, global_average, init_weights


class SmallCNN(nn.Module):
    """``depth`` blocks of 3x3 convolution, BatchNorm and ReLU, global average, linear layer ``head``.

    Block i has ``width * 2^(i-1)`` channels. The image is halved until 4 to 7 pixels are left: first by
    max-pooling between blocks, then, where that is not enough, by strides of the first convolutions (as far
    as there are blocks). Taps, after the ReLU and before the pooling: ``stage1..depth`` [B, width * 2^(i-1),
    H, W]; ``stage1_preact..`` the same before it; ``penultimate`` [B, width * 2^(depth-1)].
    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int, width: int, depth: int) -> None:
        super().__init__()
        if depth < 1 or width < 1:
            raise ValueError(f"A small CNN needs depth and width of at least 1, got {depth} and {width}.")
        halvings = max(0, (image_size // 4).bit_length() - 1)
        pools = min(halvings, depth - 1)
        strided = halvings - pools
        self.aliases = {"penultimate": "head:in"}
        self.body = nn.Sequential()
        channels = in_channels
        for i in range(depth):
            stage = nn.Sequential()
            if 0 < i <= pools:
                stage.append(nn.MaxPool2d(2))
            out_channels = width * 2**i
            stage.append(conv(channels, out_channels, 3, stride=2 if i < strided else 1))
            stage.extend([nn.BatchNorm2d(out_channels), nn.ReLU()])
            self.body.add_module(f"stage{i + 1}", stage)
            self.aliases[f"stage{i + 1}"] = f"body.stage{i + 1}"
            self.aliases[f"stage{i + 1}_preact"] = f"body.stage{i + 1}.{len(stage) - 1}:in"
            channels = out_channels
        self.head = nn.Linear(channels, num_classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> logits [B, C]."""
        return self.head(global_average(self.body(x)))


class MLP(nn.Module):
    """``depth`` hidden layers with ReLU over the flattened input, then the linear layer ``head``.

    Taps: ``stage1..depth`` [B, hidden], after the ReLU; ``penultimate`` [B, hidden] is the last of them.
    """

    def __init__(self, num_classes: int, inputs: int, hidden: int, depth: int) -> None:
        super().__init__()
        if depth < 1 or hidden < 1:
            raise ValueError(f"An MLP needs depth and hidden width of at least 1, got {depth} and {hidden}.")
        self.aliases = {"penultimate": "head:in"}
        self.body = nn.Sequential()
        for i in range(depth):
            layer = nn.Sequential(nn.Linear(inputs if i == 0 else hidden, hidden), nn.ReLU())
            self.body.add_module(f"stage{i + 1}", layer)
            self.aliases[f"stage{i + 1}"] = f"body.stage{i + 1}"
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] or [B, inputs] -> logits [B, C]."""
        return self.head(self.body(x.flatten(1)))


def small_cnn(
    num_classes: int, in_channels: int = 1, image_size: int = 8, width: int = 4, depth: int = 2
) -> SmallCNN:
    """A CNN of a few hundred parameters at the defaults; see ``SmallCNN``."""
    return SmallCNN(num_classes, in_channels, image_size, width, depth)


def mlp(num_classes: int, in_channels: int, image_size: int, hidden: int = 64, depth: int = 2) -> MLP:
    """A multilayer perceptron over ``in_channels * image_size^2`` inputs; see ``MLP``."""
    return MLP(num_classes, in_channels * image_size**2, hidden, depth)
