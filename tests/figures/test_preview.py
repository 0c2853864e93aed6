"""Previews: the panels hold what the formulas say, and every registered encoding has a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from extrapo import encodings, figures
from extrapo.figures.preview import Panel, panels, preview_figure


def test_alibi_is_its_bias_alone() -> None:
    (panel,) = panels("alibi", heads=2, head_dim=8, length=16)
    assert panel.title == "bias"
    np.testing.assert_allclose(panel.by_distance()[0], -np.arange(16) * 2.0**-4, rtol=1e-6)
    assert np.isnan(panel.values[:, 0, 1:]).all()


def test_rope_is_the_mean_of_its_cosines() -> None:
    (panel,) = panels("rope", heads=2, head_dim=8, length=12, seed=3)
    assert panel.title == "coherence of equal contents"
    torch.manual_seed(3)
    torch.randint(0, 256, (1, 12))
    torch.randn(1, 12, 16)
    u = torch.randn(16, 2, 8, dtype=torch.float32).double()
    energy = (u[..., :4] ** 2 + u[..., 4:] ** 2).mean(0)
    angles = torch.arange(12.0).double().unsqueeze(-1) * 10_000 ** (-torch.arange(4.0) / 4).double()
    expected = (energy.unsqueeze(1) * angles.cos()).sum(-1) / energy.sum(-1, keepdim=True)
    np.testing.assert_allclose(panel.by_distance(), expected.numpy(), atol=1e-5)


def test_sinusoids_are_similar_where_they_are_near() -> None:
    first = panels("sinusoidal", heads=2, head_dim=8, length=12)[0]
    assert first.title == "similarity of embedded positions"
    similarity = first.by_distance()[0]
    assert similarity[0] == pytest.approx(1)
    assert similarity[1] > similarity[3]


def test_what_has_no_bias_shows_its_weights() -> None:
    """Under NoPE random contents get a share of 1 / (i + 1) each on average; a stick is broken from the near end."""
    (plain,), (broken,) = (panels(name, heads=2, head_dim=16, length=16) for name in ("nope", "stick-breaking"))
    rows = np.nansum(plain.values, axis=-1)
    np.testing.assert_allclose(rows, 1.0, atol=1e-5)
    np.testing.assert_allclose(plain.values[:, -1], 1 / 16, atol=0.05)
    near_to_far = broken.by_distance()[:, 1:]
    assert (near_to_far[:, 0] > 2 * near_to_far[:, 3]).all()


def test_means_by_distance_leave_out_what_has_no_weight() -> None:
    values = np.full((1, 3, 3), np.nan, dtype=np.float32)
    values[0, 1, 0], values[0, 2, 2] = 4.0, 1.0
    np.testing.assert_array_equal(Panel("", values).by_distance(), [[1.0, 4.0, np.nan]])


def test_what_a_window_masks_is_seen_and_named(texts: Callable[[Figure], str]) -> None:
    """In the bias and in the coherence; the mean by distance is that of the pairs that are left."""
    options = {"window": {"window": 4}}
    for panel in panels("window+alibi", heads=2, head_dim=8, length=16, options=options):
        distance = np.arange(16)[:, None] - np.arange(16)
        np.testing.assert_array_equal(np.isneginf(panel.values), np.broadcast_to(distance >= 4, (2, 16, 16)))
        assert np.isnan(panel.by_distance()[:, 4:]).all()
        assert np.isfinite(panel.by_distance()[:, :4]).all()
        assert "masked" in texts(preview_figure("window+alibi", [panel]))
    assert "masked" not in texts(preview_figure("alibi", panels("alibi", heads=2, head_dim=8, length=16)))
    # With nothing else to see, the band is.
    assert panels("window", heads=2, head_dim=8, length=16, options={"window": 4})[0].title == "bias"


@pytest.mark.parametrize("name", encodings.names())
def test_everything_has_a_picture(name: str) -> None:
    found = panels(name, heads=2, head_dim=8, length=24)
    assert found
    for panel in found:
        assert panel.values.shape[-2:] == (24, 24)
        assert np.isfinite(panel.values[:, -1]).any()
    if name in ("k-cable", "rope"):
        assert figures.to_array(preview_figure(name, found)).std() > 10


def test_each_kind_of_layers_that_share_a_module_has_a_picture() -> None:
    """A layer that another one serves in the model is drawn as a model of it alone would have it."""
    hybrid = "accumulated-rotation:1,accumulated-rotation+alibi:1"
    options = {"accumulated-rotation": {"angles": "lf"}}
    found = panels(hybrid, heads=2, head_dim=8, length=12, options=options)
    assert {panel.title.split(": ")[0] for panel in found} == {"accumulated-rotation", "accumulated-rotation+alibi"}
