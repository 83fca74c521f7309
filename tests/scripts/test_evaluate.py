import gc
import json
import re
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import av
import av.filter
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

Scripts = Callable[[str], ModuleType]


@pytest.mark.parametrize(
    ("name", "scale", "psnr", "ssim"),
    [
        ("bicubic", 2, 33.6786, None),
        ("spanx2_ch48", 2, 38.0726, 0.9607),
        ("spanx4_ch48", 4, 32.2040, 0.8952),
    ],
)
def test_known_figures_on_set5(
    shared: Path, scripts: Scripts, name: str, scale: int, psnr: float, ssim: float | None
) -> None:
    evaluate = scripts("evaluate")
    file = name if name == "bicubic" else str(shared / "weights" / f"{name}.safetensors")
    upscale = evaluate.make_model(file, scale)
    found = evaluate.evaluate(upscale, shared / "data" / "Set5", scale)
    assert found[0] == pytest.approx(psnr, abs=0.005 + 1e-4)
    if ssim is not None:
        assert found[1] == pytest.approx(ssim, abs=1e-4)


def test_pictures_go_to_the_gpu_and_back(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, gpu = scripts("evaluate"), torch.device("cuda", 0)
    monkeypatch.setattr(evaluate, "choose_device", lambda _: gpu)
    upscale = evaluate.make_model("identity", 1, "auto", "float16")
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    with FakeTensorMode():
        found = upscale(torch.rand(1, 3, 8, 6))
        assert (found.shape, found.device.type) == ((1, 3, 8, 6), "cpu")


def test_pictures_alone_are_reduced_as_the_set_was(shared: Path, scripts: Scripts) -> None:
    evaluate = scripts("evaluate")
    bicubic = evaluate.make_model("bicubic", 2)
    found = evaluate.evaluate(bicubic, shared / "data" / "Set5" / "HR", 2)[0]
    assert found == pytest.approx(33.6786, abs=0.02)  # of which the reductions are MATLAB's own


def test_scores_known_by_heart(scripts: Scripts) -> None:
    metrics = scripts("metrics")
    picture = torch.randint(0, 256, (3, 32, 32)).to(torch.uint8)
    a = metrics.luma(picture)
    assert a.min() >= 16
    assert a.max() <= 235
    assert metrics.psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)  # 20 log10 255
    assert metrics.ssim(a, a) == pytest.approx(1)
    assert metrics.ssim(a, a.flip(0)) < 0.5


def test_rounding_is_half_up(scripts: Scripts) -> None:
    to_uint8 = scripts("pictures").to_uint8
    values = torch.tensor([-3.0, 0.49, 0.5, 1.5, 2.5, 254.5, 300.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 2, 3, 255, 255]


# Video.


def scene(frames: int, size: int = 64) -> Tensor:
    """A texture that moves, (frames, 3, size, size) uint8."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    pictures = [
        128 + 60 * torch.sin((columns - 2 * t) / 4) * torch.cos(rows / 6) for t in range(frames)
    ]
    return torch.stack(pictures)[:, None].expand(-1, 3, -1, -1).to(torch.uint8).contiguous()


def test_flicker_counts_change_and_nothing_else(scripts: Scripts) -> None:
    flicker = scripts("video").flicker
    truth = list(torch.rand(4, 8, 8, dtype=torch.float64) * 200)
    assert flicker(truth, truth) == 0
    assert flicker([picture + 7 for picture in truth], truth) == pytest.approx(0, abs=1e-9)
    trembling = [picture + (2 if index % 2 else -2) for index, picture in enumerate(truth)]
    assert flicker(trembling, truth) == pytest.approx(4)
    assert flicker(truth[:1], truth[:1]) == 0


def test_vmaf_is_high_for_the_same_and_falls_with_blur(scripts: Scripts) -> None:
    video, truth = scripts("video"), scene(4, 96)
    blurred = torch.nn.functional.avg_pool2d(truth.float(), 5, 1, 2).to(torch.uint8)
    assert video.vmaf(truth, truth) > 95
    assert video.vmaf(blurred, truth) < video.vmaf(truth, truth) - 10


def test_vmaf_is_the_filters(scripts: Scripts, tmp_path: Path) -> None:
    """libvmaf, fed from files by another graph, finds the same."""
    video, truth = scripts("video"), scene(3, 96)
    worse = torch.nn.functional.avg_pool2d(truth.float(), 3, 1, 1).to(torch.uint8)
    for name, clip in (("worse", worse), ("truth", truth)):
        with av.open(tmp_path / f"{name}.mkv", "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width = stream.height = 96
            stream.pix_fmt = "yuv420p"
            for frame in video._frames(clip):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    log = tmp_path / "log.json"
    graph = av.filter.Graph()
    paths = [re.escape(str(tmp_path / f"{name}.mkv")) for name in ("worse", "truth")]
    judge = graph.add("libvmaf", f"log_fmt=json:log_path={log}")
    sink = graph.add("buffersink")
    movies = [graph.add("movie", f"filename={path}") for path in paths]
    for index, movie in enumerate(movies):
        movie.link_to(judge, 0, index)
    judge.link_to(sink)
    graph.configure()
    for _ in range(3):
        sink.pull()
    with pytest.raises(av.EOFError):
        sink.pull()
    del graph, judge, sink, movies, movie
    gc.collect()
    theirs = json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"]
    assert video.vmaf(worse, truth) == pytest.approx(theirs, abs=1e-3)


def test_a_coded_clip_is_the_reduced_clip_with_traces(scripts: Scripts) -> None:
    video, pictures = scripts("video"), scripts("pictures")
    truth = scene(5)
    assert set(video.CODINGS) == {"h264-crf28", "mpeg2-dvd", "mpeg4-asp"}
    for coding in video.CODINGS.values():
        low, rate = video.code_clip(truth, 2, coding)
        reduced = torch.stack([pictures.reduce_bicubic(picture, 2) for picture in truth])
        error = (low * 255 - reduced.float()).abs().mean()
        assert low.shape == (5, 3, 32, 32)
        assert 0.1 < error < 12
        assert 0.02 < rate < 8


def test_a_clip_is_read_as_ffmpeg_decodes_it(scripts: Scripts, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=70x50:r=25:d=1",
         "-pix_fmt", "yuv444p", "-c:v", "ffv1", str(path)],
        check=True,
    )  # fmt: skip
    clip = scripts("video").read_clip(path, 3, 8, (64, 400))
    assert clip.shape == (3, 3, 48, 64)
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-frames:v", "3", "-vf", "crop=64:48:3:1",
         "-sws_flags", "accurate_rnd+full_chroma_int", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    later = scripts("video").read_clip(path, 3, 8, (64, 400), skip=0.4)
    assert torch.equal(later, scripts("video").read_clip(path, 13, 8, (64, 400))[10:])
    theirs = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(3, 48, 64, 3)
    assert (clip.permute(0, 2, 3, 1).float() - theirs.float()).abs().mean() < 0.6


def test_the_tables_of_the_command(
    scripts: Scripts, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = scripts("evaluate")
    command = ["codecs", str(root / "docs" / "sample.mp4"), "--models", "lanczos", "bicubic"]
    sheets = ["--sheets", str(tmp_path / "sheets")]
    assert evaluate.main([*command, "--frames", "3", "--largest", "128x96", "--each", *sheets]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith(("lanczos", "bicubic"))]
    assert [row[0] for row in rows] == ["lanczos", "bicubic"] * 3
    for row in rows:
        psnr, ssim, vmaf, flicker = (float(value) for value in row[1:])
        assert 20 < psnr < 50
        assert 0.5 < ssim < 1
        assert 0 < vmaf <= 100
        assert 0 < flicker < 40
    assert sum("bit/pixel" in line for line in lines) == 6
    for coding in scripts("video").CODINGS:  # truth, input, two models
        with Image.open(tmp_path / "sheets" / f"{coding}.png") as sheet:
            assert sheet.size == (3 * 4 * 100, 3 * 100)


def test_a_video_is_compared_with_the_truth(
    scripts: Scripts, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate, sample = scripts("evaluate"), str(root / "docs" / "sample.mp4")
    assert evaluate.main(["video", sample, sample, "--frames", "2"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert (row[0], row[1], float(row[2]), float(row[4])) == ("sample.mp4", "100.000", 1, 0)


def test_a_model_that_is_not_there_is_one_line(
    scripts: Scripts, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = str(root / "docs" / "sample.mp4")
    assert scripts("evaluate").main(["codecs", sample, "--models", "no-such", "--frames", "1"]) == 1
    assert capsys.readouterr().err.startswith("evaluate.py: error: no model is called 'no-such'")


# Pictures.


def test_gray_of_16_bits_is_gray_of_8(scripts: Scripts, tmp_path: Path) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "16.png")
    load = scripts("pictures").load
    assert torch.equal(load(tmp_path / "8.png"), load(tmp_path / "16.png"))
    assert load(tmp_path / "16.png").shape == (3, 16, 16)


def test_pictures_come_upright_and_on_white(scripts: Scripts, tmp_path: Path) -> None:
    pictures = scripts("pictures")
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:2, :, 3] = 255  # black above, nothing below
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    found = pictures.load(tmp_path / "a.png")
    assert found.shape == (3, 6, 4)
    assert (found[..., 2:] == 0).all()  # what was above is right
    assert (found[..., :2] == 255).all()
    assert pictures.look(tmp_path / "a.png") == ((6, 4), True)
    Image.fromarray(pixels[..., :3]).save(tmp_path / "plain.png")
    assert pictures.look(tmp_path / "plain.png") == ((4, 6), False)


def test_a_picture_that_cannot_be_read_is_one_line(scripts: Scripts, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.png", tmp_path / "torn.png"
    Image.effect_noise((64, 64), 50).save(whole)
    torn.write_bytes(whole.read_bytes()[:1000])
    (tmp_path / "words.jpg").write_text("no picture")
    for name in ("torn.png", "words.jpg", "missing.png"):
        with pytest.raises(SystemExit, match=f"{name}: no readable picture"):
            scripts("pictures").load(tmp_path / name)
    Image.new("F", (8, 8)).save(tmp_path / "float.tif")
    with pytest.raises(SystemExit, match=r"float\.tif: pixels of 32 bits"):
        scripts("pictures").load(tmp_path / "float.tif")


def test_pairs_that_cannot_be_compared_are_one_line(scripts: Scripts, tmp_path: Path) -> None:
    evaluate = scripts("evaluate")
    for folder, size in (("HR", 40), ("LRx2", 24), ("small", 14)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (size, size)).save(tmp_path / folder / "a.png")
    with pytest.raises(
        SystemExit, match=r"a\.png: 2 times as large it is 48x48, the picture 40x40"
    ):
        list(evaluate.pairs(tmp_path, 2))
    (tmp_path / "HR" / "a.png").unlink()
    with pytest.raises(SystemExit, match=r"HR/a\.png: no readable picture"):
        evaluate.main([str(tmp_path), "bicubic", "--device", "cpu"])
    with pytest.raises(SystemExit, match=r"a\.png: too small"):
        list(evaluate.pairs(tmp_path / "small", 2))
