"""ProARD: costs and number of the networks of a space, the phases that open it, and draws from it."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from papers.proard.method import Phase, draw, lengths
from papers.proard.nets import PlainNet, multiply_adds
from papers.proard.space import Space, divisible, enumerated
from tests.papers.proard_nets import SOME, SPACE, SPEC, make


def test_multiply_adds_by_hand_and_by_torch():
    space = Space(
        8, *(tuple(SPACE[k]) for k in ("stages", "base_depths", "widths", "depths", "expansions")), True
    )
    by_hand = 81 * 9 * 4 * 2 + 81 * 9 * 4 * 4
    by_hand += 81 * (4 * 8 + 4 * 4 + 9 * 4 * 4 + 4 * 8)
    by_hand += 25 * 8 * 6 + 81 * 8 * 2 + 25 * (9 * 2 * 2 + 2 * 6)
    by_hand += 25 * (6 * 3 + 9 * 3 * 3 + 3 * 6) + 25 * (6 * 6 + 9 * 6 * 6 + 6 * 6) + 6 * 5
    assert multiply_adds(space.layout(SOME), [1, 2], SPEC) == by_hand
    for genes in (SOME, space.smallest, space.largest):
        layout = space.layout(genes)
        plain = PlainNet(layout, [1, 2], 5, 2)
        with FlopCounterMode(display=False) as counter:
            plain(torch.zeros(1, 2, 9, 9))
        assert counter.get_total_flops() == 2 * multiply_adds(layout, [1, 2], SPEC)


def test_space_counts_and_numbers_its_networks():
    space = make().space
    everything = enumerated(space)
    assert len(everything) == space.size
    assert len({space.layout(genes) for genes in everything}) == space.size
    assert len({tuple(space.encode(genes).tolist()) for genes in list(everything)[:500]}) == 500
    released = Space(
        64, (256, 512, 1024, 2048), (2, 2, 4, 2), (0.65, 0.8, 1), (0, 1, 2), (0.2, 0.25, 0.35), True, 8
    )
    # Widths of stem and stages, the stem's block, and expansions over all depths of each stage.
    by_hand = 3**5 * 2 * (3**2 + 3**3 + 3**4) ** 3 * (3**4 + 3**5 + 3**6)
    assert released.size == by_hand and 5e11 < by_hand < 1e13


@pytest.mark.parametrize(
    ("value", "divisor", "expected"),
    [(30, 8, 32), (27, 8, 32), (33, 8, 32), (1, 8, 8), (9, 8, 16), (7.4, 1, 7)],
)
def test_channels_are_multiples(value, divisor, expected):
    # 9 rounds to 8, which is below nine tenths of it; 27 rounds to 24, below as well.
    assert divisible(value, divisor) == expected


def test_phases_open_the_space_step_by_step():
    space = make().space
    # 3 widths, 2 depths, the stem's block, 5 expansions.
    assert space.open(0, 1, 1) == (2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1)
    assert space.open(0, 2, 1) == (2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1)
    assert space.open(0, 0, 2) == (2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
    assert space.open(0, 0, 0) == space.choices == (2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3)
    published = [Phase(str(i), epochs, 0.1) for i, epochs in enumerate((120, 25, 120, 25, 120))]
    assert lengths(published, 410) == [120, 25, 120, 25, 120]
    assert sum(lengths(published, 41)) == 41 and lengths(published, 2)[1] == 1
    phase = Phase("a", 1, 0.2, warmup=0.25)
    rates = [phase.rate(p) for p in (0.0, 0.125, 0.25, 0.625, 1.0)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])


def test_draws_depend_on_seed_epoch_and_step_alone_and_are_even():
    space = make().space
    limits = space.open(0, 1, 2)
    one = draw(space, limits, 3, 1, 2, 5, 0)
    torch.rand(7)
    assert draw(space, limits, 3, 1, 2, 5, 0) == one == space.canonical(one)
    others = {draw(space, limits, *place) for place in ((4, 1, 2, 5, 0), (3, 2, 2, 5, 0), (3, 1, 3, 5, 0))}
    others |= {draw(space, limits, 3, 1, 2, 6, 0), draw(space, limits, 3, 1, 2, 5, 1)}
    assert len(others - {one}) == 5
    rows = torch.tensor([draw(space, limits, 0, 0, 0, step, 0) for step in range(600)])
    for gene, limit in zip(rows.T, limits, strict=True):
        counts = torch.bincount(gene, minlength=limit)
        assert len(counts) == limit and (counts - 600 / limit).abs().max() < 4 * math.sqrt(600 / 4)
