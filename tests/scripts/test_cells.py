"""From pixels to cells: the same function, and a training that begins with it."""

import pytest
import torch

from vsr.networks.spanf import SpanF, SpanFConfig


def on_pixels(scale, seed=0):
    """A SPAN-F with random weights, and the skip that every training holds: copies."""
    torch.manual_seed(seed)
    network = SpanF(SpanFConfig(scale=scale, channels=8, blocks=2)).double().eval()
    with torch.no_grad():
        network.conv_near.weight.zero_()[:, 0, 1, 1] = 1
    return network


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("fold", [2, 3])
def test_cells_do_what_pixels_did(scripts, scale, fold):
    pixels = on_pixels(scale)
    config = SpanFConfig(scale=scale, channels=8 * fold**2, blocks=2, unshuffle=fold)
    cells = SpanF(config).double().eval()
    cells.load_state_dict(scripts("training.cells").onto_cells(pixels.state_dict(), fold))
    picture = torch.rand(2, 3, 6 * fold, 5 * fold, dtype=torch.double)
    with torch.no_grad():
        assert torch.allclose(cells(picture), pixels(picture), atol=1e-12)


def test_the_pictures_path_stays_the_pictures_path(scripts):
    starts, cells = scripts("training.starts"), scripts("training.cells")
    pixels = on_pixels(2)
    held = starts.hold(dict(pixels.state_dict()), starts.picture_path(pixels.config))
    spread = cells.onto_cells(held, 2)
    path = starts.picture_path(SpanFConfig(scale=2, channels=32, blocks=2, unshuffle=2))
    again = starts.hold(spread, path)
    assert all(torch.equal(value, again[name]) for name, value in spread.items())


def test_a_skip_that_looks_at_neighbours_is_refused(scripts):
    network = SpanF(SpanFConfig(scale=2, channels=8, blocks=2))
    with pytest.raises(SystemExit, match="looks at neighbours"):
        scripts("training.cells").onto_cells(network.state_dict(), 2)
