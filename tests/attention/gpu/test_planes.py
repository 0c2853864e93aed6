"""What kernels of turned scores read: tokens plane by plane, and lines of cosines with room for every tile."""

from __future__ import annotations

import torch
from outcomes import draw

from extrapo.attention.gpu.planes import MARGIN, TOKENS, Planes, by_planes, zeros_by_planes
from extrapo.attention.gpu.tuning import INTERPRETED, TURNED


def test_tokens_lie_side_by_side() -> None:
    x = draw(2, 3, 37, 10).bfloat16()
    found = by_planes(x)
    assert found.shape == (2, 3, TOKENS, 10)
    assert found.stride() == (3 * 10 * TOKENS, 10 * TOKENS, 1, TOKENS)
    assert torch.equal(found[:, :, :37], x.float())
    assert not found[:, :, 37:].any()
    assert zeros_by_planes(draw(1, 1, TOKENS, 4)).shape == (1, 1, TOKENS, 4)


def test_lines_are_by_the_distance() -> None:
    """Far out an angle has many turns, all of whose digits count: only its cosine is rounded."""
    heads, keys = 2, 50
    turns = (1e6 * torch.arange(1.0, heads + 1, dtype=torch.float64)).view(1, heads, 1, 1) + torch.arange(keys)
    theta = torch.tensor([1.0, 0.3, 0.01], dtype=torch.float64)
    q, k = (by_planes(draw(1, heads, n, 12)) for n in (20, keys))
    # As the last query has them, a line ends with that of no distance.
    lines = Planes.of(q, k, turns.flip(-1), theta)
    assert lines.each == 2
    assert lines.cos.size(-1) % 16 == 0
    expected = turns.view(heads, 1, keys) * theta.view(1, -1, 1)
    for found, value in ((lines.cos, expected.cos()), (lines.sin, expected.sin())):
        torch.testing.assert_close(found[..., MARGIN : MARGIN + keys].double(), value, rtol=0, atol=4e-8)
        assert not found[..., :MARGIN].any()
        assert not found[..., MARGIN + keys :].any()
        assert found.size(-1) >= 2 * MARGIN + keys


def test_one_line_for_all_heads_has_no_stride() -> None:
    q = by_planes(draw(1, 4, 20, 4))
    lines = Planes.of(q, q, torch.arange(20.0, dtype=torch.float64).view(1, 1, 1, -1), torch.ones(1).double())
    assert lines.arguments[3] == 0


def test_every_tile_has_room() -> None:
    """Blocks divide what tokens come in, and no tile reaches beyond a line's margin."""
    for (kernel, _, _), sizes in [*TURNED.items(), (("forward", 4, 16), INTERPRETED)]:
        assert TOKENS % sizes.queries == TOKENS % sizes.keys == 0
        assert sizes.queries + sizes.keys <= MARGIN
        assert kernel != "of_distances" or sizes.queries == sizes.keys
