"""The bench's picture: a panel per phase, a bar per contender and length."""

from extrapo import figures


def test_a_panel_per_phase_and_a_bar_per_contender_and_length(texts):
    rows = [
        {"encoding": encoding, "impl": impl, "length": length, "phase": phase, "ratio": 1.0 + length / 1024}
        for encoding, impl in (("alibi", "fold"), ("plain", "-"))
        for length in (256, 512)
        for phase in ("forward", "training step")
    ]
    figure = figures.bench_figure(rows, title="beside plain attention")
    assert [axes.get_title() for axes in figure.axes] == ["forward", "training step"]
    assert [sum(len(bars) for bars in axes.containers) for axes in figure.axes] == [4, 4]
    said = texts(figure)
    for part in ("beside plain attention", "alibi (fold)", "plain", "T = 512", "1.50"):
        assert part in said
