"""A model's card: what its training left, and figures measured anew."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vsr.files import file_sha256

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
    (trained / "notes.md").write_text(
        '+++\nweights = "Of mine."\nphotographs = "drawn by lot"\n+++\nFor tests. It took a second.'
    )
    command = ["toy-x2", "--run", str(trained / "run"), "--sets", str(trained / "check"),
               "--clips", str(root / "docs" / "sample.mp4"), "--frames", "1", "--device", "cpu",
               "--notes", str(trained / "notes.md"), "--out", str(trained / "new" / "folder"),
               "--pictures", str(trained / "cards"), "--data", str(trained)]  # fmt: skip
    assert scripts("card").main(command) == 0
    card = (trained / "new" / "folder" / "toy-x2.md").read_text()
    assert card.startswith("# toy-x2\n\nFor tests. It took a second.\n")
    assert f"{file_sha256(trained / 'run' / 'model.safetensors')}`; Of mine.\n" in card
    about = "0.0092 megapixels; drawn by lot, at most 96 pixels a side, PNG"
    assert f"* **Data.** 1 photograph ({about}), and 1 pictures rendered by" in card
    assert "seed 7" in card
    assert "2 steps (2 of this recipe's 2)" in card
    assert "`scripts/train.py scripts/recipes/toy-x2.toml --data DATA --out runs/toy-x2`" in card
    evaluate = scripts("evaluate")
    for name in ("bicubic", "lanczos"):
        psnr, ssim = evaluate.evaluate(evaluate.make_model(name, 2), trained / "check", 2)
        assert f"| {name} | {psnr:.3f} / {ssim:.4f} |" in card
    for coding in ("h264-crf28", "mpeg2-dvd", "mpeg4-asp"):
        assert card.count(f"| {coding} | ") == 3
    exact, rounded = (
        evaluate.evaluate(
            evaluate.make_model(str(trained / "run" / "model.safetensors"), 2, "cpu", dtype),
            trained / "check", 2,
        )[0]
        for dtype in ("float32", "bfloat16")
    )  # fmt: skip
    assert f"| toy-x2, bf16 | {rounded:.3f} / " in card
    assert f"costs {exact - rounded:.4f} dB on check." in card
    for picture in ("curve", "failures", "codecs"):
        assert f"](../../cards/toy-x2.{picture}.png)" in card
        with Image.open(trained / "cards" / f"toy-x2.{picture}.png") as image:
            assert image.width > 100


def test_a_card_says_only_what_is_known(scripts, trained):
    wording, run = scripts("cards.wording"), scripts("cards.course").Run.read([trained / "run"])
    facts = wording.facts_of(run, trained / "t.toml", notes=wording.Notes())
    assert facts["Weights"].endswith("`.")
    assert facts["Data"].startswith("photographs of `photos`, and 1 pictures rendered by")


def test_the_cards_that_ship_come_out_the_same(scripts, root, shared):
    wording, course, seen = scripts("cards.wording"), scripts("cards.course"), 0
    for weights in (root / "models").glob("*.safetensors"):
        notes = wording.Notes.read(root / "scripts" / "recipes" / f"{weights.stem}.md")
        row = [{"step": 1.0, "seconds": 1.0}]
        run = course.Run(
            weights=weights, recipe=course.recipe_in(weights), rows=row, own=row, watched=row,
            hours=1.0,
        )  # fmt: skip
        text = (root / "models" / f"{weights.stem}.md").read_text()
        facts = wording.facts_of(run, Path("a.toml"), notes=notes, data=shared)
        assert notes.text.strip() in text
        for title in ("Weights", "Data"):
            assert f"* **{title}.** {facts[title]}\n" in text, weights.stem
        seen += 1
    assert seen == 6


def test_what_cannot_be_written_is_said_before_measuring(scripts, trained, capsys):
    (trained / "file").write_text("")
    command = ["toy-x2", "--run", str(trained / "run"), "--sets", str(trained / "missing"),
               "--out", str(trained / "file"), "--pictures", str(trained / "cards")]  # fmt: skip
    assert scripts("card").main(command) == 1
    assert capsys.readouterr().err == f"card.py: error: {trained / 'file'}: File exists\n"
    (trained / "notes.md").write_text("+++\nlicence = 3\n+++\nText.")
    with pytest.raises(SystemExit, match=r"notes\.md: .*licence"):
        scripts("cards.wording").Notes.read(trained / "notes.md")


def test_a_card_is_of_the_file_that_ships(scripts, trained):
    run, ships = trained / "run", trained / "half.safetensors"
    assert scripts("average").main([str(ships), str(run / "model.safetensors"), "--half"]) == 0
    command = ["toy-x2", "--run", str(run), str(run), "--weights", str(ships), "--device", "cpu",
               "--out", str(trained), "--pictures", str(trained / "cards")]  # fmt: skip
    assert scripts("card").main(command) == 0
    card = (trained / "toy-x2.md").read_text()
    assert file_sha256(ships) in card
    assert "4 steps (2 of this recipe's 2)" in card  # two stages of two
    assert (trained / "cards" / "toy-x2.failures.png").exists()  # of rendered pictures: no set
    other = trained / "other"  # PSNR on other pictures is no part of the curve
    shutil.copytree(run, other)
    state = load_file(other / "model.safetensors")
    save_file(state, other / "model.safetensors", {"recipe": '{"validation": "data/Set5"}'})
    found = scripts("cards.course").Run.read([other, run, run])
    assert [row["step"] for row in found.rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in found.watched] == [1, 2, 3, 4]
    assert [row["step"] for row in found.own] == [1, 2]


def test_hours_and_steps_count_on_where_a_training_went_on(scripts):
    def log(*rows):
        return [{"step": step, "seconds": seconds} for step, seconds in rows]

    course = scripts("cards.course")
    first, second = log((1, 1800), (2, 3600), (3, 900)), log((1, 900), (2, 2700))
    rows = course.join_logs([first, second, log((6, 60), (7, 3660))])
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert course.hours_of(first) == 1.25  # an hour, a stop, a quarter of an hour
    assert course.hours_of(second) == 0.75


def test_the_worst_place_is_where_the_output_is_wrong(scripts, trained):
    def upscale(x):
        out = torch.nn.functional.interpolate(x, scale_factor=2.0)
        out[..., 20:40, 90:110] = 1 - out[..., 20:40, 90:110].round()
        return out

    worst, evaluate = scripts("cards.worst"), scripts("evaluate")
    (pair,) = evaluate.pairs(trained / "check", 2)
    ((error, (seen, out, truth)),) = worst.worst_places(upscale, [pair], 2)
    _, high = pair
    assert seen.shape == out.shape == truth.shape == (3, 96, 96)
    places = high.unfold(1, 96, 1).unfold(2, 96, 1)
    ((top, left),) = (places == truth[:, None, None]).all(-1).all(-1).all(0).nonzero().tolist()
    assert top <= 20
    assert left + 96 >= 110
    assert error > 40


def test_what_a_card_shows_is_ours_and_was_not_trained_on(scripts, root):
    recipes = [tomllib.loads(p.read_text()) for p in (root / "scripts" / "recipes").glob("*.toml")]
    assert recipes
    assert scripts("cards.worst").SEED not in {recipe["seed"] for recipe in recipes}
    ((low, high), *_) = scripts("cards.worst").rendered_pairs(2)
    assert high.shape == (3, *(2 * side for side in low.shape[1:]))
