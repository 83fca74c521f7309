"""--model auto: what speaks for which model, with an index of its own and real files."""

import hashlib
import subprocess
from fractions import Fraction

import pytest
import torch
from safetensors.torch import save_file

import vsr.index
from vsr.choosing import SourceFacts, choose_model, estimate_noise
from vsr.cli import main
from vsr.errors import ConfigError
from vsr.networks.span import Span, SpanConfig

ENTRY = """
[[model]]
name = "{name}"
family = "{family}"
architecture = "span"
scale = {scale}
file = "{name}.safetensors"
sha256 = "{sha256}"
{purpose}
licence = "Apache-2.0"
summary = "toy"
"""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Writes an index of toy models; each is (name, scale, purpose)."""

    def write(*models):
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        entries = []
        for name, scale, purpose in models:
            network = Span(SpanConfig(scale=scale, channels=4, fused_channels=4, norm=False))
            path = folder / f"{name}.safetensors"
            save_file(network.state_dict(), path, {"norm": "none"})
            said = f'purpose = "{purpose}"' if purpose else ""
            entries.append(
                ENTRY.format(name=name, family=name.rpartition("-")[0], scale=scale, purpose=said,
                             sha256=hashlib.sha256(path.read_bytes()).hexdigest())
            )  # fmt: skip
        (folder / "index.toml").write_text("\n".join(entries))
        monkeypatch.setattr(vsr.index, "models_folder", lambda: folder)
        vsr.index.list_models.cache_clear()

    yield write
    vsr.index.list_models.cache_clear()


BOTH = (("a-x2", 2, "clean"), ("a-x4", 4, "clean"), ("b-x2", 2, "video"), ("c-x2", 2, ""))


def facts(codec="h264", bits=0.1, noise=0.5):
    return SourceFacts(codec=codec, bits_per_pixel=bits, noise=noise)


@pytest.mark.parametrize(
    ("codec", "bits", "noise", "name", "why"),
    [
        ("h264", 0.1, 0.5, "b-x2", "h264 at 0.10 bits a pixel, noise 0.5: compressed"),
        ("h264", 0.8, 0.5, "a-x2", "coded well"), ("h264", 0.8, 4.0, "b-x2", "noisy"),
        ("mpeg2video", 0.8, 0.5, "b-x2", "compressed"), ("hevc", 0.18, 0.5, "a-x2", "coded well"),
        ("ffv1", 0.2, 0.5, "a-x2", "nothing to mend"), ("ffv1", 9.0, 5.0, "b-x2", "noisy"),
        ("h264", None, 0.5, "b-x2", "how much is not known"), ("wmv1", 0.5, None, "b-x2", "wmv1"),
    ],
)  # fmt: skip
def test_what_speaks_for_which(shelf, codec, bits, noise, name, why):
    shelf(*BOTH)
    choice = choose_model(facts(codec, bits, noise))
    assert choice.model.name == name
    assert choice.note.startswith(f"model {name} (auto): ")
    assert why in choice.note
    assert "ships" not in choice.note


def test_where_there_is_no_video_model_that_is_said(shelf):
    shelf(("a-x2", 2, "clean"), ("a-x4", 4, "clean"), ("b-x2", 2, "video"))
    choice = choose_model(facts(), 4)
    assert choice.model.name == "a-x4"
    assert choice.note.endswith("compressed, but no video model ships at x4")
    assert choose_model(facts(), 2).model.name == "b-x2"


@pytest.mark.parametrize(
    ("reaching", "name"), [(1.5, "b-x2"), (2.0, "b-x2"), (2.1, "a-x4"), (9.0, "a-x4")]
)
def test_a_size_is_reached(shelf, reaching, name):
    shelf(*BOTH)
    assert choose_model(facts(), reaching=reaching).model.name == name


def test_a_scale_that_nothing_has_is_an_error(shelf):
    shelf(*BOTH)
    with pytest.raises(ConfigError, match=r"^model auto has no scale 3; it has 2, 4"):
        choose_model(facts(), 3)
    with pytest.raises(ConfigError, match=r"no scale 1\.5"):
        choose_model(facts(), Fraction(3, 2))
    shelf(("c-x2", 2, ""))
    with pytest.raises(ConfigError, match="it has none"):
        choose_model(facts())


# Noise.


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0, 8.0])
def test_noise_is_found_beside_texture(sigma):
    rows, columns = torch.meshgrid(torch.arange(180.0), torch.arange(320.0), indexing="ij")
    picture = 120 + 40 * torch.sin(rows / 60) + 20 * torch.sin(columns / 47)
    picture[:90, 160:] += 50 * torch.sin(columns[:90, 160:] * 1.5)  # a quarter is all texture
    noisy = [picture + sigma * torch.randn(picture.shape) for _ in range(3)]
    found = estimate_noise(noisy)
    assert found is not None
    assert found == pytest.approx(sigma, abs=0.1 + 0.2 * sigma)


def test_bars_and_small_pictures_say_nothing():
    noise = 5 * torch.randn(128, 128)
    letterboxed = torch.cat([torch.full((128, 128), 16.0), 120 + noise])
    assert estimate_noise([letterboxed]) == pytest.approx(5, abs=1)
    assert estimate_noise([]) is None
    assert estimate_noise([torch.rand(16, 200)]) is None


# The command.


def make_clip(path, *options, noise=0):
    source = "testsrc2=s=192x128:r=25:d=1"
    if noise:
        source += f",noise=alls={noise}:allf=t"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        source,
        "-pix_fmt",
        "yuv420p",
        *options,
    ]
    subprocess.run([*command, str(path)], check=True)
    return path


@pytest.mark.parametrize(
    ("options", "noise", "name"),
    [
        (("-c:v", "libx264", "-crf", "36"), 0, "b-x2"), (("-c:v", "ffv1"), 0, "a-x2"),
        (("-c:v", "libx264", "-crf", "2"), 0, "a-x2"), (("-c:v", "ffv1"), 40, "b-x2"),
        (("-c:v", "mpeg2video", "-b:v", "300k"), 0, "b-x2"),
    ],
)  # fmt: skip
def test_the_command_chooses_by_the_file_and_says_so(shelf, tmp_path, capsys, options, noise, name):
    shelf(*BOTH)
    clip = make_clip(tmp_path / "in.mkv", *options, noise=noise)
    output = tmp_path / "out.mkv"
    command = [str(clip), str(output), "--model", "auto", "--frames", "2", "--device", "cpu"]
    assert main([*command, "--record", "--log-level", "info"]) == 0
    said = capsys.readouterr().err
    assert said.count("(auto)") == 1
    assert f"model {name} (auto): " in said
    record = (tmp_path / "out.mkv.json").read_text()
    assert f"model {name} (auto): " in record
    assert f'"{name}"' in record


def test_with_the_models_that_ship_the_clean_one_is_chosen(tmp_path, capsys):
    clip = make_clip(tmp_path / "in.mkv", "-c:v", "ffv1")
    command = [str(clip), "-f", "null", "-", "--model", "auto", "--frames", "1", "--device", "cpu"]
    assert main([*command, "--log-level", "info"]) == 0
    assert "model span-x2 (auto): ffv1" in capsys.readouterr().err


def test_a_scale_without_a_model_stops_the_command(tmp_path, capsys):
    clip = make_clip(tmp_path / "in.mkv", "-c:v", "ffv1")
    assert main([str(clip), str(tmp_path / "out.mkv"), "--model", "auto", "--scale", "3"]) == 2
    assert "model auto has no scale 3" in capsys.readouterr().err
    assert not (tmp_path / "out.mkv").exists()
