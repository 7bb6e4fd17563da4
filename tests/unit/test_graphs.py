"""Graph networks against torch-geometric, hand-made sums and themselves on the whole graph."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.graphs import Graph, NodeBatch, SparseMatrix
from common.graphs.nodes import dropout, linear
from common.nets import APPNP, GAT, GCN, GIN, SAGE, NodeMLP

# A path 0-1-2-3, a triangle 3-4-5, and node 6 alone.
PAIRS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (3, 5)]
N, F_IN, C = 7, 5, 3


def graph():
    edges = torch.tensor(PAIRS + [(b, a) for a, b in PAIRS]).T
    return Graph(N, edges)


def features(sparse=False, seed=0):
    x = torch.randn(N, F_IN, generator=torch.Generator().manual_seed(seed))
    x[x.abs() < 0.5] = 0
    if not sparse:
        return x
    import scipy.sparse as sp

    return SparseMatrix.of(sp.csr_matrix(x.numpy()))


def neighbours(i):
    return [b for a, b in PAIRS if a == i] + [a for a, b in PAIRS if b == i]


def test_sparse_product_and_its_gradient():
    dense = torch.randn(F_IN, 4, requires_grad=True)
    matrix, upstream = features(sparse=True), torch.randn(N, 4)
    (matrix @ dense * upstream).sum().backward()
    torch.testing.assert_close(matrix @ dense, features() @ dense)
    torch.testing.assert_close(dense.grad, features().T @ upstream)


@pytest.mark.parametrize("width", [33, 300])
def test_a_product_in_parts_is_the_whole_product(width):
    import scipy.sparse as sp

    matrix = SparseMatrix.of(sp.random(1000, 1100, 0.05, "csr", random_state=0))
    dense = torch.randn(1100, width, requires_grad=True)
    product, upstream = matrix @ dense, torch.randn(1000, width)
    torch.testing.assert_close(product, matrix.rows.to_dense() @ dense, rtol=1e-5, atol=1e-5)
    product.backward(upstream)
    torch.testing.assert_close(dense.grad, matrix.rows.to_dense().T @ upstream, rtol=1e-5, atol=1e-5)
    if width == 300:
        assert torch.equal(product, matrix.rows @ dense)


def test_taking_rows():
    index = torch.tensor([5, 0, 0, 2])
    torch.testing.assert_close(features(sparse=True).take(index).rows.to_dense(), features()[index])


def test_linear_is_the_same_on_sparse_features():
    layer = nn.Linear(F_IN, 4)
    torch.testing.assert_close(linear(features(sparse=True), layer), layer(features()))


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_dropout_scales_and_backpropagates_its_mask(p):
    x = torch.rand(400, 500).add_(0.1).requires_grad_()
    torch.manual_seed(3)
    y = dropout(x, p, True)
    kept = y != 0
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.005)
    torch.testing.assert_close(y[kept], x[kept] / (1 - p), rtol=1e-4, atol=0)
    y.sum().backward()
    torch.testing.assert_close(x.grad, kept / (1 - p), rtol=1e-4, atol=0)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, p, True), y)
    assert torch.equal(dropout(x, p, False), x)


def test_adjacencies_by_hand():
    g = graph()
    degree = [len(neighbours(i)) + 1 for i in range(N)]
    symmetric, twice = g.adjacency("symmetric").toarray(), g.adjacency("mean_twice").toarray()
    mean = g.adjacency("mean").toarray()
    for i in range(N):
        for j in range(N):
            joined = j in neighbours(i) or i == j
            assert symmetric[i, j] == pytest.approx(joined / (degree[i] * degree[j]) ** 0.5)
            assert mean[i, j] == pytest.approx(joined / degree[i])
            # The graph's self loop counts among the neighbours, and the aggregator adds the centre once more.
            assert twice[i, j] == pytest.approx((joined + (i == j)) / (degree[i] + 1))


def test_gcn_is_torch_geometrics():
    from torch_geometric.nn import GCNConv

    net = GCN(F_IN, C, hidden=6, layers=2, dropout=0.0).eval()
    first, second = GCNConv(F_IN, 6), GCNConv(6, C)
    for theirs, ours in zip((first, second), net.convs, strict=True):
        theirs.lin.weight.data.copy_(ours.linear.weight)
        theirs.bias.data.normal_()
        ours.bias.data.copy_(theirs.bias)
    expected = second(first(features(), graph().edge_index).relu(), graph().edge_index)
    torch.testing.assert_close(net(NodeBatch(features(), graph())), expected)


def test_sage_by_hand_counts_the_centre_twice():
    net = SAGE(F_IN, C, hidden=6, layers=1).eval()
    x, layer = features(), net.convs[0]
    rows = []
    for i in range(N):
        total = sum((x[j] for j in neighbours(i)), 2 * x[i])
        rows.append(layer.linear.weight @ (total / (len(neighbours(i)) + 2)) + layer.bias)
    torch.testing.assert_close(net(NodeBatch(x, graph())), torch.stack(rows))


def test_gin_by_hand():
    net = GIN(F_IN, C, hidden=6, layers=1).eval()
    x = features()
    sums = torch.stack([sum((x[j] for j in neighbours(i)), x[i]) for i in range(N)])
    torch.testing.assert_close(net(NodeBatch(x, graph())), net.convs[0].conv.nn(sums))


def test_gat_by_hand():
    net = GAT(F_IN, C, hidden=4, layers=1, heads=2).eval()
    x, conv = features(), net.convs[0].conv
    h = x @ conv.lin.weight.T if conv.lin is not None else x @ conv.lin_src.weight.T
    source, target = (h * conv.att_src[0, 0]).sum(1), (h * conv.att_dst[0, 0]).sum(1)
    rows = []
    for i in range(N):
        near = [*neighbours(i), i]
        score = torch.stack([F.leaky_relu(source[j] + target[i], 0.2) for j in near])
        weight = torch.exp(score) / torch.exp(score).sum()
        rows.append(sum(w * h[j] for w, j in zip(weight, near, strict=True)) + conv.bias)
    torch.testing.assert_close(net(NodeBatch(x, graph())), torch.stack(rows))


def test_appnp_tends_to_personalised_pagerank():
    net = APPNP(F_IN, C, hidden=6, steps=300, alpha=0.2).eval()
    logits = net.mlp(NodeBatch(features(), graph()))
    a = torch.from_numpy(graph().adjacency("symmetric").toarray()).float()
    expected = 0.2 * torch.linalg.inv(torch.eye(N) - 0.8 * a) @ logits
    torch.testing.assert_close(net(NodeBatch(features(), graph())), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("make", [GCN, SAGE, GAT, GIN, APPNP, NodeMLP])
def test_a_receptive_field_gives_the_rows_of_the_whole_graph(make, sparse):
    torch.manual_seed(0)
    net = make(F_IN, C, hidden=8, layers=3, dropout=0.0).eval()
    whole = net(NodeBatch(features(sparse), graph()))
    for nodes in ([5, 0], [6], [3, 1, 2, 4]):
        nodes = torch.tensor(nodes)
        torch.testing.assert_close(net(NodeBatch(features(sparse), graph(), nodes)), whole[nodes])


def test_a_receptive_field_gives_the_whole_graphs_gradient():
    net, nodes = GCN(F_IN, C, hidden=8, layers=2, dropout=0.0), torch.tensor([2, 6])
    parts = []
    for logits in (net(NodeBatch(features(), graph(), nodes)), net(NodeBatch(features(), graph()))[nodes]):
        parts.append(torch.autograd.grad(logits.logsumexp(1).sum(), list(net.parameters())))
    for got, expected in zip(*parts, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_field_holds_only_what_is_needed():
    nodes, fields = graph().fields(torch.tensor([0]), 2, "mean")
    assert sorted(nodes.tolist()) == [0, 1, 2]
    assert [tuple(field.matrix.shape) for field in fields] == [(2, 3), (1, 2)]


def test_sampled_neighbours_are_a_mean_over_some_and_the_centre():
    torch.manual_seed(0)
    g, nodes = graph(), torch.arange(N)
    for _ in range(20):
        needed, (field,) = g.fields(nodes, 1, "mean_twice", fanout=2)
        dense = field.matrix.rows.to_dense()
        torch.testing.assert_close(dense.sum(1), torch.ones(N))
        for i in range(N):
            used = {int(needed[k]) for k in dense[i].nonzero()[:, 0].tolist()}
            assert i in used and used <= {*neighbours(i), i} and len(used) <= 3
    torch.manual_seed(1)
    first = g.fields(nodes, 1, "mean_twice", fanout=2)[1][0].matrix.rows.to_dense()
    torch.manual_seed(1)
    assert torch.equal(first, g.fields(nodes, 1, "mean_twice", fanout=2)[1][0].matrix.rows.to_dense())


def test_enough_fanout_is_the_exact_aggregation():
    g = graph()
    needed, (field,) = g.fields(torch.arange(N), 1, "mean_twice", fanout=50)
    torch.testing.assert_close(
        field.matrix.rows.to_dense()[:, needed.argsort()],
        torch.from_numpy(g.adjacency("mean_twice").toarray()).float(),
    )


def test_a_perceptron_does_not_look_at_the_graph():
    net = NodeMLP(F_IN, C, hidden=8, layers=3).eval()
    empty = Graph(N, torch.zeros(2, 0, dtype=torch.int64))
    assert torch.equal(net(NodeBatch(features(), graph())), net(NodeBatch(features(), empty)))
