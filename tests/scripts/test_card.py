"""A model's card: what its training left, and figures measured anew."""

import numpy as np
import pytest
import torch
from PIL import Image

from vsr.cache import file_sha256

RECIPE = """
network = "span"
scale = 2
channels = 8
photographs = "photos"
rendered = 1
rendered_share = 0.25
validation = "check"
tile = 16
patch = 16
batch = 1
choices = 1
steps = 2
warmup = 1
rate = 1e-3
final_rate = 1e-6
clip = 1.0
ema = 0.9
seed = 7
"""


@pytest.fixture
def trained(scripts, tmp_path, monkeypatch):
    """A run of two steps, and a set of one picture that it was watched with."""
    rng = np.random.default_rng(0)
    for name, size in (("photos/a.png", 96), ("check/HR/c.png", 128)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3)).astype(np.uint8)).save(path)
    (tmp_path / "check" / "LRx2").mkdir()
    Image.open(tmp_path / "check/HR/c.png").resize((64, 64)).save(tmp_path / "check/LRx2/c.png")
    (tmp_path / "toy.toml").write_text(RECIPE)
    train = scripts("train")
    monkeypatch.setattr(train.signal, "signal", lambda *_: None)
    command = [str(tmp_path / "toy.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "run"),
               "--cache", str(tmp_path / "cache"), "--every", "1", "--device", "cpu"]  # fmt: skip
    assert train.main(command) == 0
    return tmp_path


def test_a_card_holds_what_was_made_and_what_was_measured(scripts, trained, root):
    (trained / "notes.md").write_text("For tests. It took a second.")
    command = ["toy-x2", "--run", str(trained / "run"), "--sets", str(trained / "check"),
               "--clips", str(root / "docs" / "sample.mp4"), "--frames", "1", "--device", "cpu",
               "--notes", str(trained / "notes.md"), "--out", str(trained),
               "--pictures", str(trained / "cards")]  # fmt: skip
    assert scripts("card").main(command) == 0
    card = (trained / "toy-x2.md").read_text()
    assert card.startswith("# toy-x2\n\nFor tests. It took a second.\n")
    assert file_sha256(trained / "run" / "model.safetensors") in card
    assert "seed 7" in card
    assert "2 of 2 steps" in card
    evaluate = scripts("evaluate")
    for name in ("bicubic", "lanczos"):
        psnr, ssim = evaluate.evaluate(evaluate.make_model(name, 2), trained / "check", 2)
        assert f"| {name} | {psnr:.3f} / {ssim:.4f} |" in card
    for coding in ("h264-crf28", "mpeg2-dvd", "mpeg4-asp"):
        assert card.count(f"| {coding} | ") == 3
    for picture in ("curve", "failures"):
        assert f"cards/toy-x2.{picture}.png" in card
        with Image.open(trained / "cards" / f"toy-x2.{picture}.png") as image:
            assert image.width > 100


def test_the_worst_place_is_where_the_output_is_wrong(scripts, trained):
    def upscale(x):
        out = torch.nn.functional.interpolate(x, scale_factor=2.0)
        out[..., 20:40, 90:110] = 1 - out[..., 20:40, 90:110].round()
        return out

    card, evaluate = scripts("card"), scripts("evaluate")
    error, seen, out, truth = card.worst_places(upscale, trained / "check", 2)[0]
    _, high = next(evaluate.pairs(trained / "check", 2))
    assert seen.shape == out.shape == truth.shape == (3, 96, 96)
    places = high.unfold(1, 96, 1).unfold(2, 96, 1)
    ((top, left),) = (places == truth[:, None, None]).all(-1).all(-1).all(0).nonzero().tolist()
    assert top <= 20
    assert left + 96 >= 110
    assert error > 40
