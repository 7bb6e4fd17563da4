"""Training a graph classifier on a reduced set; the epoch is chosen on real validation graphs."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

from common.core.seeding import derive
from common.data.graph_sets import GraphSet, GraphSplits
from papers.mirage.nets import GNNS, GraphClassifier, as_tensors
from papers.mirage.reduced import Reduced

_INIT, _ORDER, _STEP = 1, 2, 3


@dataclass(frozen=True)
class Budget:
    """How a classifier is trained.

    Attributes:
        epochs: passes over the set.
        batch: graphs of a step.
        lr: of Adam.
        weight_decay: L2 penalty inside Adam.
        check_every: epochs between looks at the validation graphs; the last epoch is always looked at.
    """

    epochs: int
    batch: int
    lr: float
    weight_decay: float
    check_every: int = 1


@dataclass(frozen=True)
class Outcome:
    """Area under the ROC curve: validation at the chosen epoch, test there, test at the last epoch."""

    val: float
    test: float
    test_last: float
    epoch: int


def auc(logits: Tensor, y: Tensor) -> float:
    """Area under the ROC curve of logits [G, C] for classes [G]; beyond two classes the mean of one against all."""
    if logits.shape[1] == 2:
        return float(binary_auroc((logits[:, 1] - logits[:, 0]).double(), y))
    return float(multiclass_auroc(logits.double().softmax(1), y, num_classes=logits.shape[1]))


@torch.no_grad()
def measure(net: nn.Module, graphs: GraphSet) -> float:
    """AUC on real graphs, pooled over all nodes."""
    net.eval()
    return auc(net(*as_tensors(graphs)), torch.from_numpy(graphs.y))


def better(candidate: float, best: float) -> bool:
    """Whether a later epoch replaces the best one so far: a tie goes to the later, as in the release."""
    return candidate >= best


def train(
    kind: str, data: GraphSplits, reduced: Reduced, net_options: dict[str, object], budget: Budget, seed: int
) -> Outcome:
    """Trains one network of ``kind`` on ``reduced``; the test graphs are read after training only."""
    number = GNNS.index(kind) if kind in GNNS else 0
    torch.manual_seed(derive(seed, _INIT, number))
    net = GraphClassifier(kind, data.num_labels, data.num_classes, **net_options)
    optimizer = torch.optim.Adam(net.parameters(), budget.lr, weight_decay=budget.weight_decay)
    count = len(reduced)
    whole = reduced if count <= budget.batch else None
    best, weights, chosen, step = -1.0, None, 0, 0
    ready = (
        None if whole is None else (as_tensors(whole.graphs, whole.root), torch.from_numpy(whole.graphs.y))
    )
    for epoch in range(budget.epochs):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive(seed, _ORDER, epoch)))
        net.train()
        for index in order.split(budget.batch):
            if ready is None:
                part = reduced.take(index.numpy())
                inputs, y = as_tensors(part.graphs, part.root), torch.from_numpy(part.graphs.y)
            else:
                inputs, y = ready
            # Dropout draws from the global generator.
            torch.manual_seed(derive(seed, _STEP, number, step))
            step += 1
            optimizer.zero_grad()
            F.cross_entropy(net(*inputs), y).backward()
            optimizer.step()
        if (epoch + 1) % budget.check_every == 0 or epoch + 1 == budget.epochs:
            current = measure(net, data.splits["val"])
            if better(current, best):
                best, weights, chosen = current, copy.deepcopy(net.state_dict()), epoch + 1
    last = measure(net, data.splits["test"])
    net.load_state_dict(weights)
    return Outcome(best, measure(net, data.splits["test"]), last, chosen)
