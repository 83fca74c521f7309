"""Averages of weights."""

import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vsr.networks.sst import Sst, SstConfig
from vsr.weights import load_network

CONFIG = SstConfig(channels=8, blocks=1, windows=(8, 16), ranks=(8, 8), heads=1, inner=12)


@pytest.fixture
def files(tmp_path):
    """Two trainings of one network, whose windows only metadata tell."""
    paths = []
    for name in ("a", "b"):
        paths.append(tmp_path / f"{name}.safetensors")
        save_file(Sst(CONFIG).state_dict(), paths[-1], {"windows": "8,16", "recipe": f"{{{name}}}"})
    return paths


def test_the_mean_is_weighted_and_keeps_what_the_first_file_says(scripts, files, tmp_path):
    output = tmp_path / "out.safetensors"
    assert scripts("average").main([str(output), f"{files[0]}:3", f"{files[1]}:1"]) == 0
    first, second, mean = (load_file(path) for path in (*files, output))
    for name, value in mean.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * second[name])
    with safe_open(output, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "windows": "8,16", "recipe": "{a}"}
    assert load_network(output).module.config == CONFIG


def test_half_is_half_as_large_and_nearly_the_same(scripts, files, tmp_path):
    output = tmp_path / "half.safetensors"
    assert scripts("average").main([str(output), str(files[0]), "--half"]) == 0
    assert output.stat().st_size < 0.6 * files[0].stat().st_size
    picture = torch.rand(1, 3, 16, 16)
    exact, rounded = (load_network(path).module(picture) for path in (files[0], output))
    assert 0 < (exact - rounded).abs().max() < 2e-3


def test_other_networks_are_refused(scripts, files, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(2)}, other)
    output = tmp_path / "out.safetensors"
    assert scripts("average").main([str(output), str(files[0]), str(other)]) == 1
    assert "different networks" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["none.safetensors"], "none.safetensors: No such file"),
        (["none.safetensors:2"], "none.safetensors: No such file"),
        (["a.safetensors:much"], "'much' is no number to weigh "),
        (["a.safetensors:1", "b.safetensors:-1"], "their weights are 0 together"),
        (["a.safetensors:nan"], "their weights are nan together"),
        (["words.safetensors"], "words.safetensors: no readable safetensors file"),
    ],
)
def test_what_cannot_be_averaged_is_one_line(scripts, files, tmp_path, capsys, parts, words):
    (tmp_path / "words.safetensors").write_text("words")
    named = [str(tmp_path / part) for part in parts]
    assert scripts("average").main([str(tmp_path / "out.safetensors"), *named]) == 1
    said = capsys.readouterr().err
    assert said.startswith("average.py: error: ")
    assert words in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_a_name_may_hold_a_colon(scripts, files, tmp_path):
    folder = tmp_path / "12:30"
    folder.mkdir()
    path = files[0].rename(folder / "a.safetensors")
    output = tmp_path / "out.safetensors"
    for part in (f"{path}", f"{path}:3"):
        assert scripts("average").main([str(output), part]) == 0
        for name, value in load_file(output).items():
            assert torch.equal(value, load_file(path)[name])


def test_the_file_is_written_whole_and_others_may_read_it(scripts, files, tmp_path, monkeypatch):
    average, output = scripts("average"), tmp_path / "out.safetensors"
    mask = os.umask(0o022)
    try:
        assert average.main([str(output), str(files[0])]) == 0
    finally:
        os.umask(mask)
    if os.name == "posix":
        assert output.stat().st_mode & 0o777 == 0o644
    before = output.read_bytes()

    def fail(path, data):
        with path.open("wb") as file:
            file.write(data[:100])
        raise OSError("the disk is full")

    monkeypatch.setattr(type(output), "write_bytes", fail)
    with pytest.raises(OSError, match="full"):
        average.main([str(output), str(files[1])])
    assert output.read_bytes() == before
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_a_folder_that_is_not_there_is_one_line(scripts, files, tmp_path, capsys):
    assert scripts("average").main([str(tmp_path / "no" / "out.safetensors"), str(files[0])]) == 1
    assert "out.safetensors: No such file or directory" in capsys.readouterr().err
