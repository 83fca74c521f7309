"""Degradations: real where codecs run, and the same for a seed."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from vsr.frame import Colour, Matrix, Range, Siting

BT601 = Colour(matrix=Matrix.SMPTE170M, range=Range.LIMITED, siting=Siting.LEFT)


def scene(frames, size=64, speed=3):
    """Waves and a bar that move, (frames, 3, size, size) float32 in [0, 255]."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pictures = []
    for index in range(frames):
        x = columns - speed * index
        waves = 128 + 50 * torch.sin(x / 5) * torch.cos(rows / 7) + 15 * torch.sin(x + 1.1 * rows)
        bar = ((x % 40) < 4).float() * 60
        pictures.append(torch.stack([waves + bar, waves, waves - bar]))
    return torch.stack(pictures).clamp(0, 255)


# Motion.


def test_a_moving_crop_is_the_still_at_whole_pixels_and_between_them_moves_smoothly(scripts):
    motion = scripts("training.motion")
    still = scene(1, 96)[0].to(torch.uint8)
    whole = motion.Path(np.array([5.0, 7.0]), np.array([9.0, 30.0]), np.ones(2), 32)
    crops = motion.moving_crop(still, whole)
    for crop, top, left in zip(crops, (5, 7), (9, 30), strict=True):
        assert torch.allclose(crop, still[:, top : top + 32, left : left + 32].float(), atol=0.01)
    between = motion.Path(np.array([5.0]), np.array([9.5]), np.ones(1), 32)
    centre = motion.moving_crop(still, between)[0]
    sides = (still[:, 5:37, 9:41].float() + still[:, 5:37, 10:42].float()) / 2
    assert (centre - sides).abs().mean() < 4
    assert (centre - crops[0]).abs().mean() > 2


def test_paths_stay_inside_and_never_stand_all_still(scripts):
    motion, rng = scripts("training.motion"), np.random.default_rng(0)
    moved = []
    for _ in range(50):
        path = motion.draw_path((80, 120), 48, 10, 4.0, rng)
        for start, side in ((path.rows, 80), (path.columns, 120)):
            assert (start >= 0).all()
            assert (start + path.zoom * 48 <= side + 1e-9).all()
        moved.append(np.ptp(path.columns))
    assert np.median(moved) > 5
    assert any(value % 1 > 0.01 for value in moved)


# Codecs.


@pytest.mark.parametrize("name", ["mpeg2", "mpeg4", "h264", "hevc", "vp9"])
def test_a_codec_loses_more_at_a_worse_quality_and_is_deterministic(scripts, name):
    codecs, degrade = scripts("training.codecs"), scripts("training.degrade")
    planes = [degrade.to_planes(picture, BT601) for picture in scene(7)]
    qualities = (2, 20) if name.startswith("mpeg") else (18, 40)
    found = []
    for quality in qualities:
        codec = codecs.quality_codec(name, quality)
        decoded, size = codecs.recode(planes, codec)
        again, _ = codecs.recode(planes, codec)
        assert all(np.array_equal(a, b) for a, b in zip(decoded, again, strict=True))
        lost = np.mean(
            [np.abs(a.astype(int) - b).mean() for a, b in zip(decoded, planes, strict=True)]
        )
        found.append((float(lost), size))
    (lost, size), (more_lost, smaller) = found
    assert 0 < lost < more_lost < 30  # the same pictures in the same order
    assert smaller < size
    assert more_lost > 1.5 * lost


def test_a_rate_is_kept_as_the_command_line_tool_keeps_it(scripts, tmp_path):
    """The same encoder and rate through ffmpeg lose about as much, in about as many bytes."""
    codecs, degrade = scripts("training.codecs"), scripts("training.degrade")
    planes = [degrade.to_planes(picture, BT601) for picture in scene(25, 96)]
    rate = 400_000
    decoded, size = codecs.recode(planes, codecs.rate_codec("mpeg2", rate))
    raw = b"".join(picture.tobytes() for picture in planes)
    shape = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "96x96", "-r", "25"]
    coded = tmp_path / "coded.m2v"
    subprocess.run(
        ["ffmpeg", "-v", "error", *shape, "-i", "-", "-c:v", "mpeg2video", "-b:v", str(rate),
         "-bf", "2", "-g", "12", "-threads", "1", str(coded)],
        input=raw, check=True,
    )  # fmt: skip
    theirs = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(coded), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    other = np.frombuffer(theirs, np.uint8).reshape(-1, 144, 96)
    assert len(other) == len(decoded)
    lost, theirs_lost = (
        np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(pictures, planes, strict=True)])
        for pictures in (decoded, other)
    )
    assert size == pytest.approx(coded.stat().st_size, rel=0.25)
    assert lost == pytest.approx(theirs_lost, rel=0.25)


def test_colour_survives_its_round_trip_but_for_subsampling(scripts):
    degrade = scripts("training.degrade")
    gray = scene(1)[0].mean(0, keepdim=True).expand(3, -1, -1)
    back = degrade.from_planes(degrade.to_planes(gray, BT601), BT601) * 255
    assert (back - gray).abs().max() < 1.5
    coloured = scene(1)[0]
    back = degrade.from_planes(degrade.to_planes(coloured, BT601), BT601) * 255
    assert 0.5 < (back - coloured).abs().mean() < 8


# Everything together.


def settings(scripts, **changes):
    nothing = {"soft": 0.0, "blurred": 0.0, "clean_reduction": 1.0, "noisy": 0.0,
               "interlaced": 0.0, "coded": 0.0, "recoded": 0.0}  # fmt: skip
    return scripts("training.degrade").Degradation(**(nothing | changes))


def run(scripts, seed=0, frames=4, **changes):
    degrade = scripts("training.degrade")
    chosen = settings(scripts, **changes)
    sequence = scene(frames * chosen.rate)
    return degrade.degrade(sequence, 2, chosen, np.random.default_rng(seed))


def luma_error(low, high, scripts):
    reduced = torch.stack([scripts("pictures").reduce_bicubic(picture, 2) for picture in high])
    luma = scripts("metrics").luma
    return (luma(low) - luma(reduced)).abs().mean()


@pytest.mark.parametrize(
    ("harm", "word", "least"),
    [
        ({"blurred": 1.0}, "blur", 0.3), ({"noisy": 1.0, "noise": 8.0}, "noise", 0.5),
        ({"clean_reduction": 0.0}, "", 0.3), ({"interlaced": 1.0}, "fields", 1.0),
        ({"coded": 1.0, "codecs": ("h264",), "shares": (1.0,)}, "h264", 0.5),
    ],
)  # fmt: skip
def test_each_harm_harms(scripts, harm, word, least):
    untouched, high, _ = run(scripts)
    base = luma_error(untouched, high, scripts)
    low, high, words = run(scripts, **harm)
    assert low.shape == (4, 3, 32, 32)
    assert high.shape == (4, 3, 64, 64)
    assert word in words
    assert luma_error(low, high, scripts) > base + least


def test_the_truth_is_the_picture_of_its_moment(scripts):
    for interlaced in (0.0, 1.0):
        low, high, _ = run(scripts, interlaced=interlaced)
        expected = scene(8)[:: 2 if interlaced else 1][:4].add(0.5).floor().to(torch.uint8)
        assert torch.equal(high, expected)
        reduced = torch.stack([scripts("pictures").reduce_bicubic(picture, 2) for picture in high])
        errors = [
            (low.float() - torch.roll(reduced, shift, 0).float()).abs().mean() for shift in (0, 1)
        ]
        assert errors[0] < errors[1]


def test_soft_truth_is_soft_and_all_that_is_wanted(scripts):
    def detail(pictures):
        return float(pictures.float().diff(dim=-1).abs().mean())

    _, sharp, _ = run(scripts)
    low, soft, words = run(scripts, soft=1.0)
    assert "soft" in words
    assert detail(soft) < 0.9 * detail(sharp)
    reduced = torch.stack([scripts("pictures").reduce_bicubic(picture, 2) for picture in soft])
    luma = scripts("metrics").luma
    assert (luma(low) - luma(reduced)).abs().mean() < 1.0  # nothing else was lost


def test_night_falls_on_truth_and_all(scripts):
    _, day, _ = run(scripts)
    low, night, words = run(scripts, dark=1.0, darkness=3.0)
    assert "dark" in words
    power = float(words.removeprefix("dark "))
    expected = (day / 255) ** power * 255
    assert (night.float() - expected).abs().max() < 4  # the power is told to one digit
    reduced = torch.stack([scripts("pictures").reduce_bicubic(picture, 2) for picture in night])
    assert (low.float().mean() - reduced.float().mean()).abs() < 1


def test_a_picture_coded_twice_is_worse(scripts, monkeypatch):
    qualities = {"mpeg2": (8.0, 8.0), "h264": (30.0, 30.0)}
    monkeypatch.setattr(scripts("training.degrade"), "_QUALITIES", qualities)

    def error(names, seed, **more):
        shares = tuple(1.0 for _ in names)
        low, high, words = run(scripts, seed, coded=1.0, codecs=names, shares=shares, **more)
        return float(luma_error(low, high, scripts)), words

    found = [(seed, *error(tuple(qualities), seed, recoded=1.0)) for seed in range(16)]
    twice = {seed: lost for seed, lost, words in found if all(name in words for name in qualities)}
    assert twice
    once = [max(error((name,), seed)[0] for name in qualities) for seed in twice]
    assert sum(twice.values()) > sum(once)
    assert error(("mpeg2",), 0, recoded=1.0)[1].count("mpeg2") == 2


def test_a_seed_decides_everything(scripts):
    everything = {"soft": 0.5, "blurred": 0.5, "noisy": 0.5, "coded": 0.9, "recoded": 0.3,
                  "interlaced": 0.3, "clean_reduction": 0.5}  # fmt: skip
    first, second, third = (run(scripts, seed, **everything) for seed in (3, 3, 4))
    assert torch.equal(first[0], second[0])
    assert first[2] == second[2]
    assert not torch.equal(first[0], third[0])


# Never trained on.


def digests(paths):
    """Of the decoded pixels: another container or another name makes no other picture."""
    import hashlib

    from PIL import Image

    found = {}
    for path in paths:
        with Image.open(path) as image:
            found[hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()] = path
    return found


@pytest.fixture(scope="module")
def evaluation_pictures(shared):
    folders = [shared / "data" / name for name in ("Set5", "kodak24")]
    return [path for folder in folders for path in sorted(folder.rglob("*.png"))]


def test_evaluation_pictures_are_never_trained_on(shared, scripts, root, evaluation_pictures):
    """By the bytes and by the pixels of every file that any recipe trains on."""
    import hashlib

    recipes = [
        scripts("training.recipe").Recipe.read(path)
        for path in sorted((root / "scripts" / "recipes").glob("*.toml"))
    ]
    trained = {
        path
        for r in recipes
        for path in scripts("training.stills").picture_files(shared / r.photographs)
    }
    assert len(trained) > 100
    assert len(evaluation_pictures) > 30

    def bytes_of(paths):
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    assert not bytes_of(trained) & bytes_of(evaluation_pictures)
    assert not set(digests(trained)) & set(digests(evaluation_pictures))


def fingerprint(path: Path) -> np.ndarray:
    """Signs of brightness differences on a 17 x 16 grid: survives scaling and coding."""
    from PIL import Image

    with Image.open(path) as image:
        small = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=int)
    return np.diff(small, axis=1) > 0


def test_not_even_another_copy_of_an_evaluation_picture_is_trained_on(
    shared, evaluation_pictures, tmp_path
):
    """A scaled or recompressed copy has other bytes, but the same fingerprint."""
    from PIL import Image

    pictures = [path for path in evaluation_pictures if "LRx" not in str(path)]
    known = np.stack([fingerprint(path).ravel() for path in pictures])
    copy = tmp_path / "copy.jpg"
    with Image.open(pictures[0]) as image:
        image.convert("RGB").resize((200, 180)).save(copy, quality=60)
    assert (known != fingerprint(copy).ravel()).mean(1).min() < 0.1
    trained = sorted((shared / "data" / "train").glob("*.jpg"))
    assert len(trained) > 100
    for path in trained:
        assert (known != fingerprint(path).ravel()).mean(1).min() > 0.2, path
