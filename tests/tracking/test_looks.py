"""What the layers did is read back as it was recorded, to half precision."""

import numpy as np

from extrapo.evaluation.look import LayerLook
from extrapo.figures.explorer.page import TOKENS
from extrapo.tracking.looks import recorded_looks


def test_looks_come_back_by_step_with_their_tokens(recorder):
    client, run = recorder.store.client, recorder.run_id
    assert recorded_looks(client, run) is None
    random = np.random.default_rng(0)
    bias, weights = random.normal(0, 5, (2, 2, TOKENS + 9, TOKENS + 9)).astype(np.float32)
    bias[:, np.triu(np.ones(bias.shape[1:], dtype=bool), 1)] = -np.inf
    clock = random.random((2, TOKENS + 9)).cumsum(-1)
    for step in (20, 0):
        recorder.looks(step, [LayerLook(bias * (step + 1), weights), LayerLook(bias, weights, clock)], np.arange(200))
    found = recorded_looks(client, run)
    assert list(found.steps) == [0, 20]
    assert found.tokens == list(range(TOKENS))
    plain, contextual = found.steps[20]
    assert plain.positions is None
    assert contextual.gates is None
    np.testing.assert_allclose(plain.bias, 21 * bias[:, :TOKENS, :TOKENS], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(contextual.positions, clock[:, :TOKENS], rtol=1e-6)


def test_what_half_precision_does_not_hold_is_kept_whole(recorder):
    bias = np.full((1, 4, 4), -3e8, dtype=np.float32)
    recorder.looks(0, [LayerLook(bias, np.ones_like(bias))], np.arange(4))
    found = recorded_looks(recorder.store.client, recorder.run_id)
    np.testing.assert_allclose(found.steps[0][0].bias, bias)
