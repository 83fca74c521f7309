"""Training: resuming is exact, every network starts and learns, caches are what the recipe says."""

import json
import math
import re
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.warm import PYTHON
from vsr.networks import ARCHITECTURES
from vsr.networks.blocks import branches, fold
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.networks.sst import Sst, SstConfig
from vsr.weights import load_network

RECIPE = """
network = "{network}"
scale = {scale}
channels = 8
photographs = "photos"
rendered = 1
rendered_share = 0.25
validation = "check"
tile = 16
patch = 16
batch = 2
choices = 2
steps = {steps}
warmup = 2
rate = 1e-3
final_rate = 1e-6
clip = 1.0
ema = 0.9
seed = 1
{extra}
"""
VIDEO = """
degradation = "video"
clips = 4
frames = 2
[video]
codecs = ["mpeg2", "h264"]
shares = [0.5, 0.5]
"""
SST = """
[shape]
blocks = 1
windows = [8, 16]
ranks = [8, 8]
heads = 1
inner = 12
"""
SHAPES = {
    "span": "", "spanf": "[shape]\nblocks = 2", "spanv2": "[shape]\nblocks = 2",
    "spanplus": '[shape]\nblocks = [1]\nupsampler = "ps"', "sst": SST,
    "esc": "[shape]\nblocks = 1\nconvolutions = 1\nwindow = 8\nheads = 2\nlarge_channels = 4\n"
    "kernel_hidden = 2\ninner = 8\nprojection_inner = 8",
    "esc-lte": "[shape]\nblocks = 1\nconvolutions = 1\nwindow = 8\nheads = 2\nlarge_channels = 4\n"
    "kernel_hidden = 2\ninner = 8\nprojection_inner = 8",
}  # fmt: skip


@pytest.fixture(scope="module")
def train(scripts):
    return scripts("train")


def write_picture(path, size, rng):
    """Noise with some shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waves = np.sin(np.mgrid[0:size, 0:size].sum(0) / 5)[..., None] * 60 + 128
    picture = (waves + rng.normal(0, 20, (size, size, 3))).clip(0, 255).astype(np.uint8)
    Image.fromarray(picture).save(path)
    return picture


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two photographs, a set of pairs to validate on, and pictures to make pairs of."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, size in (("photos/a.jpg", 96), ("photos/b.jpg", 128), ("plain/d.png", 64)):
        write_picture(folder / name, size, rng)
    picture = write_picture(folder / "check/HR/c.png", 48, rng)
    for scale in (2, 4):
        small = folder / f"check/LRx{scale}/c.png"
        small.parent.mkdir(parents=True)
        Image.fromarray(picture).resize((48 // scale, 48 // scale)).save(small)
    return folder


@pytest.fixture
def run(train, data, tmp_path, monkeypatch):
    """Train by a recipe in float32; returns the weights."""
    for number in (signal.SIGINT, signal.SIGTERM):  # which a training takes for itself
        monkeypatch.setattr(train.signal, "signal", lambda *_: None)
        assert signal.getsignal(number) is not None

    def run(out, *options, steps, scale=2, network="span", extra="", dtype="float32"):
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(RECIPE.format(network=network, steps=steps, scale=scale, extra=extra))
        arguments = [str(recipe), "--data", str(data), "--out", str(tmp_path / out), "--every", "3"]
        arguments += ["--cache", str(tmp_path / f"cache-{scale}-{hash(extra)}"), "--device", "cpu"]
        assert train.main([*arguments, "--dtype", dtype, *options]) == 0
        return load_file(tmp_path / out / "model.safetensors")

    return run


# Resuming.


def interrupt(train, monkeypatch, steps, run):
    """Run until ``steps`` are done and saved, and break off."""
    advance = train.Trainer.advance

    def stop(trainer):
        if trainer.step == steps:
            raise KeyboardInterrupt
        advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "advance", stop)
        patch.setattr(train.Schedule, "must_save", lambda _: True)
        with pytest.raises(KeyboardInterrupt):
            run()


@pytest.mark.parametrize(
    ("network", "extra"),
    [
        ("span", VIDEO.replace("check", "plain")), ("sst", SST),
        ("span", 'optimiser = "muon"'), ("esc", 'optimiser = "muon"\n' + SHAPES["esc"]),
    ],
)  # fmt: skip
def test_two_steps_and_two_more_are_four(train, run, tmp_path, monkeypatch, network, extra):
    if "video" in extra:
        extra = extra.replace('degradation = "video"', 'degradation = "video"\nrounded_share = 0.3')
        monkeypatch.setattr(f"{__name__}.RECIPE", RECIPE.replace('"check"', '"plain"'))
    whole = run("whole", steps=4, network=network, extra=extra)
    interrupt(train, monkeypatch, 2, lambda: run("halves", steps=4, network=network, extra=extra))
    halves = run("halves", steps=4, network=network, extra=extra)
    assert whole.keys() == halves.keys()
    for name, value in whole.items():
        assert torch.equal(value, halves[name]), name
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "halves")]
    assert [row.split(",")[0] for row in logs[0]] == ["step", "3.0", "4.0"]
    without_time = [[row.split(",")[:1] + row.split(",")[2:] for row in log] for log in logs]
    assert without_time[0] == without_time[1]


def test_what_changed_on_the_way_is_said(run, capsys):
    run("out", steps=3)
    run("out", steps=3)
    assert "resumed at step 3\n" in capsys.readouterr().out
    run("out", steps=4, extra="gray_share = 0.5")
    said = capsys.readouterr().out
    assert "resumed at step 3, with steps 3 -> 4, gray_share 0.0 -> 0.5\n" in said


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("[shape]\nblocks = 5", r'shape {} -> {"blocks": 5} changes the network'),
        ('optimiser = "muon"', 'optimiser "adamw" -> "muon" changes the optimiser'),
        ("reduced_share = 0.5", r"reduced_share 0.0 -> 0.5 changes the cache"),
    ],
)
def test_what_cannot_change_on_the_way_is_refused(run, tmp_path, extra, words):
    run("out", steps=2)
    before = (tmp_path / "out" / "checkpoint.pt").read_bytes()
    with pytest.raises(SystemExit, match=re.escape(words)):
        run("out", steps=4, extra=extra)
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == before


def test_fewer_steps_than_were_done_are_refused(run):
    run("out", steps=4)
    with pytest.raises(SystemExit, match="4 steps are done, the recipe has 2"):
        run("out", steps=2)


def test_an_older_checkpoint_goes_on_if_it_fits(run, tmp_path):
    run("out", steps=2)
    path = tmp_path / "out" / "checkpoint.pt"
    values = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in values.items() if k not in ("recipe", "held")}, path)
    with pytest.raises(SystemExit, match="of another recipe"):
        run("out", steps=4, extra="[shape]\nchannels = 12")
    run("out", steps=4)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SystemExit, match=r"checkpoint\.pt: no readable checkpoint"):
        run("out", steps=4)


def test_a_training_that_diverges_stops_and_keeps_what_was_good(run, tmp_path, monkeypatch):
    run("out", steps=3)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    steep = 'schedule = "steps"\nmilestones = [3]\ndecay = 1e30'
    with pytest.raises(SystemExit, match=r"diverged: .*step \d.*what was saved before is kept"):
        run("out", steps=9, extra=steep)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == kept


def test_what_has_diverged_is_not_saved(scripts, tmp_path):
    trainer = SimpleNamespace(step=7, parameters=[torch.ones(2)], average=[torch.ones(2)])
    check = scripts("training.trainer").Trainer.check_finite
    trainer._losses = [torch.tensor(0.5)]
    check(trainer)
    trainer._losses += [torch.tensor(float("inf")), torch.tensor(float("nan"))]
    with pytest.raises(SystemExit, match="the loss of step 6 is inf"):
        check(trainer)
    trainer._losses, trainer.average = [], [torch.tensor([1, float("nan")])]
    with pytest.raises(SystemExit, match="after step 7 weights are not finite"):
        check(trainer)


def test_muon_turns_kernels_and_adamw_moves_the_rest(scripts):
    make = scripts("training.optimiser").make_optimiser
    kernel = torch.randn(16, 12, 3, 3, requires_grad=True)
    thin = torch.randn(16, 4, 1, 1, requires_grad=True)
    bias = torch.zeros(16, requires_grad=True)
    recipe = SimpleNamespace(optimiser="muon", rate=0.1, weight_decay=0.0)
    before = [p.detach().clone() for p in (kernel, thin, bias)]
    optimiser = make(recipe, [kernel, thin, bias])
    optimiser.param_groups[0]["lr"] = 0.01
    for p in (kernel, thin, bias):
        p.grad = torch.randn_like(p)
    optimiser.step()
    step, *others = (p.detach() - old for p, old in zip((kernel, thin, bias), before, strict=True))
    lengths = torch.linalg.svdvals(step.flatten(1)) / (0.01 * 0.2 * 108**0.5)
    assert 0.5 < lengths.min() < lengths.max() < 1.5  # near to orthogonal, by as much as AdamW
    for other, p in zip(others, (thin, bias), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(other, -0.01 * p.grad.sign(), atol=1e-6, rtol=1e-4)


def test_a_training_that_is_told_to_end_saves_its_step(data, tmp_path, root):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(network="span", steps=10_000, scale=2, extra=""))
    out = tmp_path / "out"
    command = [*PYTHON, str(root / "scripts" / "train.py"), str(recipe), "--data", str(data),
               "--out", str(out), "--cache", str(tmp_path / "cache"), "--every", "1"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "psnr" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    step = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    rows = (out / "log.csv").read_text().splitlines()
    assert rows[-1].startswith(f"{float(step)},")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["prepare", "Trainer"])
def test_a_training_that_is_told_to_end_before_its_first_step(
    train, data, tmp_path, monkeypatch, capfd, where, number
):
    def told(*_, **__):
        signal.raise_signal(number)
        pytest.fail("went on")

    monkeypatch.setattr(train, where, told)
    before = signal.getsignal(number)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(network="span", steps=1, scale=2, extra=""))
    command = [str(recipe), "--data", str(data), "--out", str(tmp_path / "out"),
               "--cache", str(tmp_path / "cache"), "--device", "cpu"]  # fmt: skip
    assert train.main(command) == 128 + number
    said = "stopped before the first step: the same command goes on with the cache"
    assert capfd.readouterr().err == f"train.py: {said}\n"
    assert signal.getsignal(number) is before


def test_overlapping_kernels_count_once(scripts):
    covered = scripts("training.busy")._covered
    assert covered([(0, 4), (1, 2), (3, 6), (8, 9)]) == 7
    assert covered([]) == 0


@pytest.mark.cuda
def test_how_busy_a_gpu_is(run, capsys):
    run("out", "--device", "cuda", "--busy", steps=40)
    words = capsys.readouterr().out.split("the GPU works ")[1].split("%")
    assert 0 < float(words[0]) <= 100


@pytest.mark.cuda
def test_a_training_moves_from_a_cpu_to_a_gpu(train, run, tmp_path, monkeypatch):
    on_cpu = run("out", steps=4)
    interrupt(train, monkeypatch, 2, lambda: run("moved", steps=4))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    moved = run("moved", "--device", "cuda", steps=4)
    for name, value in on_cpu.items():  # the same patches in the same order
        torch.testing.assert_close(moved[name], value, rtol=0.02, atol=2e-3)


# Networks.


@pytest.mark.parametrize("network", SHAPES)
def test_every_network_trains_and_is_read_again(run, tmp_path, network):
    before = run("one", steps=1, network=network, extra=SHAPES[network])
    after = run("more", steps=4, network=network, extra=SHAPES[network])
    found = load_network(tmp_path / "more" / "model.safetensors", scale=2)
    assert found.name == network
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())


def test_all_registered_networks_can_be_named(scripts):
    names = {architecture.name for architecture in ARCHITECTURES}
    assert names == set(scripts("training.recipe")._CHOICES["network"])
    assert names - set(SHAPES) == {"sst-real"}


def test_the_result_is_a_plain_folded_span(run, tmp_path):
    run("out", steps=3)
    network = load_network(tmp_path / "out" / "model.safetensors")
    assert (network.name, network.scale) == ("span", 2)
    assert isinstance(network.module, Span)
    assert network.module.config == SpanConfig(scale=2, channels=8, fused_channels=8, norm=False)


def bilinear(picture, scale):
    return torch.nn.functional.interpolate(picture, scale_factor=scale, mode="bilinear")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("fold", [None, 1, 2])
def test_training_starts_from_a_bilinear_enlargement(scripts, scale, fold):
    starts = scripts("training.starts")
    picture = torch.rand(1, 3, 24, 28)
    network: Span | SpanF
    if fold is None:
        network = Span(SpanConfig(scale=scale, channels=8, fused_channels=8, norm=False))
        last, carried = "upsampler.0.weight", 3
    else:
        network = SpanF(SpanFConfig(scale=scale, channels=16, blocks=2, unshuffle=fold))
        last, carried = "conv_2.eval_conv.weight", 3 * fold**2
    state = starts.initial_state(network, picture)
    state[last][:, carried:] = 0  # everything but the picture's path silenced
    network.load_state_dict(state)
    with torch.no_grad():
        out = network(picture)
    inner = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    assert torch.allclose(out[inner], bilinear(picture, scale)[inner], atol=1e-5)


def test_an_sst_starts_from_a_bilinear_enlargement(scripts):
    config = SstConfig(
        channels=8, blocks=1, windows=(8, 16), ranks=(8, 8), heads=1, inner=12, scale=2
    )
    module, picture = Sst(config), torch.rand(1, 3, 9, 11)
    state = scripts("training.starts").initial_state(module, picture)
    state["upsampler.up_conv.weight"][:, 3:] = 0
    state["upsampler.up_conv.bias"].zero_()
    state["body.2.weight"].zero_()
    state["body.2.bias"].zero_()
    module.load_state_dict(state)
    with torch.no_grad():
        out = module(picture)
    inner = (..., slice(2, -2), slice(2, -2))  # zero padding shows at the edge
    assert torch.allclose(out[inner], bilinear(picture, 2)[inner], atol=1e-5)


def test_the_pictures_path_is_held_and_the_rest_learns(scripts, run):
    before = run("short", steps=1)
    after = run("long", steps=6)
    config = SpanConfig(scale=2, channels=8, fused_channels=8, norm=False)
    for name, (rows, values) in scripts("training.starts").picture_path(config).items():
        assert torch.equal(after[name][rows], values)
    name = "block_3.c2_r.eval_conv.weight"
    assert not torch.equal(before[name], after[name])


def test_a_network_of_another_scale_gives_its_body(scripts, run, tmp_path):
    donor = run("donor", steps=3)
    state = Span(SpanConfig(scale=4, channels=8, fused_channels=8, norm=False)).state_dict()
    taken = scripts("training.starts").transplant(state, donor)
    name = "block_2.c1_r.eval_conv.weight"
    assert torch.equal(taken[name], donor[name])
    assert taken["upsampler.0.weight"].shape[0] == 48
    start = tmp_path / "donor" / "model.safetensors"
    heir = run("heir", steps=2, scale=4, extra=f'start = "{start}"')
    assert heir["upsampler.0.weight"].isfinite().all()


@pytest.fixture
def stranger(tmp_path):
    """A SPAN that was not trained here: random, normalised, no picture's path; and its file."""
    torch.manual_seed(0)
    config = SpanConfig(scale=2, channels=8, fused_channels=8, mean=(0.5, 0.4, 0.3))
    network = Span(config).eval()
    network.conv_1.eval_conv.weight.data /= 255
    path = tmp_path / "stranger.safetensors"
    metadata = {"norm": "mean", "rgb_mean": "[0.5, 0.4, 0.3]", "img_range": "255.0"}
    save_file(
        {k: v.contiguous() for k, v in branches(network.state_dict()).items()}, path, metadata
    )
    return network, path


def read_subject(scripts, folder, extra, network="span"):
    """The subject of a recipe, and the state that it begins with."""
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(network=network, steps=1, scale=2, extra=extra))
    subject = scripts("training.subject").Subject(scripts("training.recipe").Recipe.read(path))
    return subject, subject.initial(torch.rand(1, 3, 16, 16))


def test_a_strangers_span_is_begun_with_as_it_is(scripts, stranger, tmp_path):
    network, path = stranger
    subject, state = read_subject(scripts, tmp_path, "")
    state, words = subject.begun(state, str(path))
    assert words.startswith(f"begun with 44 of 44 tensors of {path}")
    picture = torch.rand(1, 3, 60, 60)
    state = subject.opened(state)
    with torch.no_grad():
        wanted = network(picture)
        for weights in (subject.effective(state, torch.float32), subject.closed(state)):
            single = {name: value.float() for name, value in weights.items()}
            inner = (..., slice(48, -48), slice(48, -48))  # beyond it is black, not the mean
            out = subject.forward(single, picture)[inner]
            assert torch.allclose(out, wanted[inner], atol=1e-4 * float(wanted.std()))


def test_a_strangers_span_is_gone_on_with_when_its_file_is_gone(scripts, run, stranger, tmp_path):
    extra = f'start = "{stranger[1]}"'
    run("out", steps=3, extra=extra)
    stranger[1].unlink()
    weights = run("out", steps=4, extra=extra)
    config = SpanConfig(scale=2, channels=8, fused_channels=8, norm=False)
    path = scripts("training.starts").picture_path(config)
    assert not scripts("training.starts").carries(weights, path)


def test_what_was_trained_here_keeps_its_path_also_in_halves(scripts, run, tmp_path):
    donor = {name: value.half() for name, value in run("donor", steps=1).items()}
    save_file(donor, tmp_path / "half.safetensors", {"norm": "none"})
    subject, state = read_subject(scripts, tmp_path, "")
    _, words = subject.begun(state, str(tmp_path / "half.safetensors"))
    assert subject.path
    assert "held" not in words


def test_a_start_that_cannot_be_used_is_one_line(scripts, run, stranger, tmp_path):
    with pytest.raises(SystemExit, match=r"start: .*none\.safetensors: No such file"):
        run("out", steps=1, extra=f'start = "{tmp_path / "none.safetensors"}"')
    extra = f'start = "{stranger[1]}"\n{SHAPES["esc"]}'
    with pytest.raises(SystemExit, match=r"no tensor of .*stranger.* of this network's"):
        run("out", steps=1, network="esc", extra=extra)
    with pytest.raises(SystemExit, match="norm: what is trained takes pictures as they are"):
        read_subject(scripts, tmp_path, "[shape]\nnorm = true")


def test_cells_begin_where_pixels_ended(scripts, run, tmp_path):
    shape = "[shape]\nblocks = 2"
    pixels = run("pixels", steps=3, network="spanf", extra=shape)
    start = tmp_path / "pixels" / "model.safetensors"
    path = tmp_path / "cells.toml"
    extra = f'start = "{start}"\n{shape}\nunshuffle = 2'
    text = RECIPE.format(network="spanf", steps=1, scale=2, extra=extra)
    path.write_text(text.replace("channels = 8", "channels = 32"))
    subject = scripts("training.subject").Subject(scripts("training.recipe").Recipe.read(path))
    picture = torch.rand(1, 3, 16, 16)
    state = subject.opened(subject.adapted(load_file(start)))
    out = subject.forward(subject.effective(state, torch.float32), picture)
    network = SpanF(SpanFConfig(scale=2, channels=8, blocks=2)).eval()
    network.load_state_dict(pixels)
    with torch.no_grad():
        assert torch.allclose(out, network(picture), atol=1e-5)


def test_folding_is_differentiable_into_every_branch():
    folded = Span(SpanConfig(channels=8, fused_channels=8)).state_dict()
    state = {name: value.clone().requires_grad_() for name, value in branches(folded).items()}
    torch.stack([value.square().sum() for value in fold(state).values()]).sum().backward()
    assert all(value.grad is not None for value in state.values())


# A step.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_last_part_is_rounded_to_bfloat16(scripts, run, monkeypatch, dtype):
    seen = []
    subject = scripts("training.subject").Subject
    effective = subject.effective

    def watch(self, state, wanted):
        seen.append(wanted)
        return effective(self, state, wanted)

    monkeypatch.setattr(subject, "effective", watch)
    run("out", steps=4, extra="rounded_share = 0.5", dtype=dtype)
    assert seen == [getattr(torch, dtype)] * 2 + [torch.bfloat16] * 2


def test_rounding_reaches_the_body_and_nothing_else(scripts, data, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(network="span", steps=1, scale=2, extra=""))
    subject = scripts("training.subject").Subject(scripts("training.recipe").Recipe.read(recipe))
    state = subject.opened(subject.initial(torch.rand(1, 3, 16, 16)))
    weights = subject.effective(state, torch.bfloat16)
    halves = {name for name, value in weights.items() if value.dtype == torch.bfloat16}
    assert halves == {n for n in weights if n.startswith(("block_", "conv_2."))}
    out = subject.forward(weights, torch.rand(1, 3, 16, 16))
    exact = subject.forward(subject.effective(state, torch.float32), torch.rand(1, 3, 16, 16))
    assert out.dtype == exact.dtype == torch.float32


def mean_decibels(squares):
    """Of patches' squared differences, with an epsilon of 0.01."""
    return sum(10 * math.log10(float(s.mean()) + 1e-4) for s in squares) / len(squares)


def charbonnier(difference):
    return float((difference**2 + 1e-4).sqrt().mean())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('loss = "l1"', lambda d: float(d.abs().mean())),
        ('loss = "charbonnier"\nepsilon = 0.01', charbonnier),
        (
            'loss = "charbonnier"\nepsilon = 0.01\nluma_share = 0.75',
            lambda d: charbonnier(d) / 4 + charbonnier(_luma(d)) * 3 / 4,
        ),
        ('loss = "psnr"\nepsilon = 0.01', lambda d: mean_decibels([p**2 for p in d])),
        (
            'loss = "psnr"\nepsilon = 0.01\nluma_share = 0.75',
            lambda d: mean_decibels(
                [(p**2).mean() / 4 + (_luma(p[None]) ** 2).mean() * 3 / 4 for p in d]
            ),
        ),
    ],
)
def test_a_loss_is_what_its_formula_says(run, scripts, monkeypatch, fields, expected):
    losses: list[tuple[float, torch.Tensor]] = []
    trainer = scripts("training.trainer").Trainer
    compute = trainer._compute_loss

    def watch(self, state, low, high, dtype):
        value = compute(self, state, low, high, dtype)
        out = self.subject.forward(self.subject.effective(state, dtype), low)
        losses.append((float(value.detach()), (out - high).detach()))
        return value

    monkeypatch.setattr(trainer, "_compute_loss", watch)
    run("one", steps=1, extra=fields)
    value, difference = losses[0]
    assert value == pytest.approx(expected(difference), rel=1e-5)


def _luma(difference):
    return torch.einsum("nchw,c->nhw", difference, torch.tensor([0.299, 0.587, 0.114]))


# Recipes.


@pytest.mark.parametrize(
    ("network", "extra", "words"),
    [
        ("vdsr", "", "network must be one of esc, esc-lte, span, "),
        ("span", "moment = 0.9", "unknown fields moment"),
        ("span", 'loss = "l2"', "loss must be one of l1, charbonnier, psnr"),
        ("span", 'degradation = "video"', "needs clips"),
        ("span", "[video]\nsnow = 1", "video: unknown fields snow"),
        ("span", "[video]\nsoft = 2", "video: soft must be from 0 to 1, not 2"),
        ("span", '[video]\ncodecs = ["cinepak"]', "codecs: cinepak: each must be one of mpeg2, "),
        ("span", "[video]\nshares = [1.0]", "video: shares must be as many as codecs"),
        ("span", "video = 3", "video must be a table"),
        ("span", "reduced_share = 0.8", "rendered_share and reduced_share must be 1 together"),
        ("span", "reduced_share = 0.1\nreductions = []", "reduced_share needs reductions"),
        ("span", "reductions = [0.5, 3]", "each of reductions must be from 0.1 to 1, not 3"),
        ("span", "weight_decay = nan", "weight_decay must be a number, not nan"),
        ("span", "milestones = [3, -1]", "each of milestones must be at least 0, not -1"),
        ("span", "milestones = 3", "milestones must be a list"),
        ("span", "start = true", "start must be a text, not True"),
        ("span", "seed = 2", "no recipe in TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(scripts, tmp_path, network, extra, words):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(network=network, steps=1, scale=2, extra=extra))
    with pytest.raises(SystemExit, match=words):
        scripts("training.recipe").Recipe.read(recipe)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("steps = 12.5", "steps must be a whole number, not 12.5"),
        ('steps = "12"', "steps must be a whole number, not '12'"),
        ("steps = 0", "steps must be at least 1, not 0"),
        ("scale = 0", "scale must be from 1 to 16, not 0"),
        ("patch = 0", "patch must be at least 8, not 0"),
        ("batch = true", "batch must be a whole number, not True"),
        ("ema = 1.5", "ema must be from 0 to 1, not 1.5"),
        ("clip = 0", "clip must be above 0, not 0"),
        ("rendered_share = 1.5", "rendered_share must be from 0 to 1, not 1.5"),
    ],
)
def test_a_value_that_a_field_cannot_have_is_said(scripts, tmp_path, line, words):
    name = line.split()[0]
    text = RECIPE.format(network="span", steps=1, scale=2, extra="")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(re.sub(rf"^{name} = .*$", line, text, flags=re.MULTILINE))
    with pytest.raises(SystemExit, match=words):
        scripts("training.recipe").Recipe.read(recipe)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("depth = 3", "shape of span: unknown fields depth"),
        ("blocks = 1.5", "shape of span: blocks must be a whole number"),
        ("channels = 2", "span cannot be of this shape: "),
    ],
)
def test_a_shape_that_no_network_has_is_said(scripts, tmp_path, shape, words):
    with pytest.raises(SystemExit, match=words):
        read_subject(scripts, tmp_path, f"[shape]\n{shape}")


def test_a_recipe_that_is_not_there_is_one_line(train, tmp_path):
    with pytest.raises(SystemExit, match=r"none\.toml: No such file or directory"):
        train.main([str(tmp_path / "none.toml"), "--data", "d", "--out", "o"])


@pytest.mark.parametrize("option", ["--every=0", "--every=x", "--minutes=nan", "--minutes=-1"])
def test_an_option_that_makes_no_sense_is_one_line(train, capsys, option):
    with pytest.raises(SystemExit) as raised:
        train.main(["r.toml", "--data", "d", "--out", "o", option])
    assert raised.value.code == 2
    assert "from " in capsys.readouterr().err.splitlines()[-1]


def test_a_field_that_is_missing_is_said(scripts, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        RECIPE.format(network="span", steps=1, scale=2, extra="").replace("seed = 1\n", "")
    )
    with pytest.raises(SystemExit, match="missing fields seed"):
        scripts("training.recipe").Recipe.read(recipe)


def test_the_shipped_recipes_are_complete(scripts, root):
    paths = list((root / "scripts" / "recipes").glob("*.toml"))
    assert paths
    for path in paths:
        recipe = scripts("training.recipe").Recipe.read(path)
        scripts("training.subject").Subject(recipe)
        assert recipe.learning_rate(recipe.warmup) == pytest.approx(recipe.rate)
        if recipe.schedule == "cosine":
            assert recipe.learning_rate(recipe.steps) == pytest.approx(recipe.final_rate)


def test_the_rate_falls_in_steps(scripts, tmp_path):
    recipe = tmp_path / "recipe.toml"
    extra = 'schedule = "steps"\nmilestones = [10, 20]\ndecay = 0.5'
    recipe.write_text(RECIPE.format(network="span", steps=30, scale=2, extra=extra))
    read = scripts("training.recipe").Recipe.read(recipe)
    rates = [read.learning_rate(step) for step in (0, 1, 2, 9, 10, 19, 20, 29)]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


# What a training leaves.


def test_the_weights_say_how_they_were_made_and_the_curve_is_drawn(run, tmp_path):
    run("out", steps=6)
    with safe_open(tmp_path / "out" / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    recipe = json.loads(metadata["recipe"])
    assert (recipe["steps"], recipe["seed"], recipe["network"]) == (6, 1, "span")
    with Image.open(tmp_path / "out" / "curve.png") as curve:
        colours = {colour for _, colour in curve.convert("RGB").getcolors(1 << 16) or ()}
    assert {(0x1F, 0x5F, 0xA8), (0xB0, 0x4A, 0x2F)} <= colours
    assert (tmp_path / "out" / "log.csv").read_text().startswith("step,seconds,loss,rate,psnr\n")
    names = {"checkpoint.pt", "curve.png", "log.csv", "model.safetensors"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    modes = {path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1  # the weights may be read by whoever may read the log


def test_a_checkpoint_is_never_older_than_was_asked_for(train, tmp_path):
    schedule = train.Schedule(100, 0.05, 1e9)
    assert not schedule.must_save()
    time.sleep(0.06)
    assert schedule.must_save()
    assert not schedule.must_save()


def test_a_line_of_the_log_that_is_torn_is_dropped(scripts, run, tmp_path):
    run("out", steps=3)
    log = tmp_path / "out" / "log.csv"
    whole = log.read_bytes()
    log.write_bytes(whole + b"3.5,1")
    assert [row["step"] for row in scripts("training.journal").read_log(log)] == [3]
    run("out", steps=4)
    assert log.read_bytes().startswith(whole + b"4.0,")
    for torn in (b"", b"step,sec"):
        log.write_bytes(torn)
        run("out", steps=5 + len(torn))
        assert log.read_text().startswith("step,seconds,loss,rate,psnr\n")


def test_pictures_to_validate_with_that_are_no_pairs_are_one_line(scripts, tmp_path):
    pairs_of_folder = scripts("training.validation").pairs_of_folder
    for folder, size in (("HR", 20), ("LRx2", 12)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (size, size)).save(tmp_path / folder / "a.png")
    with pytest.raises(SystemExit, match=r"LRx2/a.png: 2 times as large it is 24x24"):
        pairs_of_folder(tmp_path, 2)
    (tmp_path / "HR" / "a.png").rename(tmp_path / "HR" / "b.png")
    with pytest.raises(SystemExit, match=r"HR/a\.png: no readable picture \(No such file"):
        pairs_of_folder(tmp_path, 2)
    for size in (1, 4):
        Image.new("RGB", (size, size)).save(tmp_path / "small.png")
        with pytest.raises(SystemExit, match="too small"):
            scripts("training.validation").pairs_of_folder(_alone(tmp_path), 2)


def _alone(folder):
    """A folder of ``small.png`` alone."""
    alone = folder / "alone"
    alone.mkdir(exist_ok=True)
    return (folder / "small.png").rename(alone / "small.png").parent
