"""Values that callers of the library hand in: as people write them, or a line of what is wrong."""

import copy
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsr.checking import whole
from vsr.config import EncoderConfig, FieldsConfig, InputConfig, ScriptConfig, UpscaleConfig
from vsr.errors import ConfigError
from vsr.sources import SourceConfig, open_source
from vsr.tags import FieldOrder, Range, Siting
from vsr.upscaler import Upscaler
from vsr.weights import load_network

PATHS: dict[str, Any] = {"input": "in.mkv", "output": "out.mkv"}


def test_values_as_people_write_them() -> None:
    given: dict[str, Any] = {
        "scale": "27/10", "start": "0.2", "end": np.float64(2.5), "frames": np.int64(3),
        "tile": np.int32(64), "size": [np.int64(50), 40],
    }  # fmt: skip
    given |= {"reuse_threshold": "0.5", "segment_seconds": Fraction(5, 2)}
    config = UpscaleConfig(**PATHS, **given)
    assert (config.reuse_threshold, config.segment_seconds) == (0.5, 2.5)
    assert (config.input, config.output) == (Path("in.mkv"), Path("out.mkv"))
    assert config.scale == Fraction(27, 10)
    assert (config.start, config.end) == (Fraction(1, 5), Fraction(5, 2))
    assert (config.frames, config.tile, config.size) == (3, 64, (50, 40))
    assert type(config.frames) is int
    of_input: dict[str, Any] = {"rate": "30000/1001", "range": 2, "siting": 1}
    source = InputConfig(**of_input)
    assert source.rate == Fraction(30000, 1001)
    assert (source.range, source.siting) == (Range.FULL, Siting.LEFT)
    crf: Any = "17.5"
    assert EncoderConfig(crf=crf).crf == 17.5
    part: dict[str, Any] = {"start": "1.5", "threads": 0}
    assert SourceConfig(**part).start == Fraction(3, 2)
    with pytest.raises(ConfigError, match="threads must be a whole number, 0 or more, not -3"):
        SourceConfig(threads=-3)
    crf = "best"
    with pytest.raises(ConfigError, match="crf must be a number, not 'best'"):
        EncoderConfig(crf=crf)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (320.0, 180)}, "size must be a whole number, not 320.0"),
        ({"size": (1, 2, 3)}, r"size must be \(width, height\), not \(1, 2, 3\)"),
        ({"size": "640x360"}, r"size must be \(width, height\), not '640x360'"),
        ({"tile": 64.0}, "tile must be a whole number, not 64.0"),
        ({"scale": "two"}, "scale must be a number, not 'two'"),
        ({"scale": float("nan")}, "scale must be a number, not nan"),
        ({"start": "1:30"}, "start must be a number, not '1:30'"),
        ({"end": "1/0"}, "end must be a number, not '1/0'"),
        ({"decode_threads": -3}, "decode_threads must be a whole number, 0 or more, not -3"),
        ({"reuse_threshold": "much"}, "reuse_threshold must be a number, not 'much'"),
        ({"reuse_threshold": float("nan")}, "--reuse-threshold must be from 0 to .*, not nan"),
        ({"segment_seconds": [1]}, r"segment_seconds must be a number, not \[1\]"),
        ({"encoder": {"crf": 18}}, "encoder must be of EncoderConfig, not {'crf': 18}"),
        ({"encoder": None}, "encoder must be of EncoderConfig, not None"),
        ({"muxer": 3}, "muxer must be text, not 3"),
        ({"filters": 3}, "filters must be text, not 3"),
        ({"target": 3}, "target must be text, not 3"),
        ({"model": None}, "model must be text, not None"),
        ({"model": 3}, "model must be text, not 3"),
        ({"device": None}, "device must be text, not None"),
        ({"overwrite": "no"}, "overwrite must be True or False, not 'no'"),
        ({"overwrite": np.zeros(2)}, "overwrite must be True or False, not array"),
        ({"record": 3}, "record must be True or False, not 3"),
        ({"crop": None}, "crop must be True or False, not None"),
        ({"frames": True}, "frames must be a whole number, not True"),
        ({"scale": True}, "scale must be a number, not True"),
        ({"segment_seconds": False}, "segment_seconds must be a number, not False"),
        ({"precision": "fp8"}, "precision must be one of auto, fp32, fp16, bf16, not 'fp8'"),
        ({"runtime": ["torch"]}, r"runtime must be one of auto, .*, not \['torch'\]"),
        ({"hwaccel": None}, "hwaccel must be one of none, auto, cuda, not None"),
        ({"input": None}, "input must be the name of a file, not None"),
    ],
)
def test_what_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UpscaleConfig(**PATHS | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"range": "full"}, "range must be a vsr.tags.Range, not 'full'"),
        ({"field_order": "tff"}, "field_order must be a vsr.tags.FieldOrder, not 'tff'"),
        ({"matrix": "bt709"}, "matrix must be a whole number, not 'bt709'"),
        ({"rate": "film"}, "rate must be a number, not 'film'"),
    ],
)
def test_what_an_input_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputConfig(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"codec": 3}, "codec must be text, not 3"),
        ({"pix_fmt": 3}, "pix_fmt must be text, not 3"),
        ({"sound": "mute"}, "sound must be one of copy, web, not 'mute'"),
        ({"options": None}, "options must be a dictionary, not None"),
        ({"options": {3: "g"}}, "a name in options must be text, not 3"),
        ({"muxer_options": {"movflags": None}}, r"muxer_options\['movflags'\] must be text, not"),
    ],
)
def test_what_an_encoder_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(**given)


@pytest.mark.parametrize("name", ["", b"in.mkv", "in\0.mkv", Path("in\0.mkv"), 3])
def test_what_no_file_can_be_called_is_one_line(name: Any) -> None:
    for field in ("input", "output", "weights", "audio_from"):
        with pytest.raises(ConfigError, match=f"{field} must be the name of a file, not"):
            UpscaleConfig(**PATHS | {field: name})
    with pytest.raises(ConfigError, match="audio_from must be the name of a file, not"):
        SourceConfig(audio_from=name)
    with pytest.raises(ConfigError, match="path must be the name of a file, not"):
        open_source(name)
    with pytest.raises(ConfigError, match="weights must be the name of a file, not"):
        Upscaler(weights=name)
    with pytest.raises(ConfigError, match="weights must be the name of a file, not"):
        load_network(weights=name)


def test_options_may_be_numbers() -> None:
    options: Any = {"g": 12, "qcomp": 0.5, "aq": True, "b": np.int64(7), "tune": "film"}
    text = {"g": "12", "qcomp": "0.5", "aq": "1", "b": "7", "tune": "film"}
    assert EncoderConfig(options=options, muxer_options=options) == EncoderConfig(
        options=text, muxer_options=text
    )


@pytest.mark.parametrize(
    "config",
    [
        InputConfig(rate=Fraction(25), range=Range.FULL),
        ScriptConfig(arguments={"a": "b"}),
        FieldsConfig(deinterlace="bwdif"),
        SourceConfig(input=InputConfig(siting=Siting.LEFT), start=Fraction(1, 3)),
        EncoderConfig(crf=17.5, options={"g": "12"}),
        UpscaleConfig(**PATHS, size=(50, 40), source=InputConfig(rate=Fraction(25))),
    ],
    ids=lambda config: type(config).__name__,
)
def test_configs_go_to_other_processes(config: Any) -> None:
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config


def test_truth_values_that_are_numbers() -> None:
    given: dict[str, Any] = {"overwrite": np.True_, "crop": 0}
    config = UpscaleConfig(**PATHS, **given)
    assert (config.overwrite, config.crop) == (True, False)
    assert {type(config.overwrite), type(config.crop)} == {bool}


def test_arguments_of_a_script_are_a_dictionary() -> None:
    arguments: Any = None
    with pytest.raises(ConfigError, match="arguments must be a dictionary, not None"):
        ScriptConfig(arguments=arguments)


def test_the_device_of_an_upscaler() -> None:
    device: Any
    for device in (None, 3):
        with pytest.raises(ConfigError, match="device must be auto, cpu, cuda or cuda:N, not"):
            Upscaler("identity", device=device)


def test_which_output_of_a_script() -> None:
    number: Any
    for number in (1, np.int64(1)):
        assert type(ScriptConfig(output=number).output) is int
    for number, message in (("1", "a whole number, not '1'"), (-1, "must be 0 or more, not -1")):
        with pytest.raises(ConfigError, match=message):
            ScriptConfig(output=number)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": 0}, "frames must be 1 or more, not 0"),
        ({"frames": -1}, "frames must be 1 or more, not -1"),
        ({"start": Fraction(-1)}, "start must not be negative, not -1 s"),
        ({"start": 2, "end": 1}, "must lie after the start"),
    ],
)
def test_a_part_that_cannot_be_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SourceConfig(**given)
    with pytest.raises(ConfigError, match=message):
        UpscaleConfig(**PATHS, **given)


def test_the_smallest_whole_number_that_will_do() -> None:
    assert [whole("n", value, least=1) for value in (1, np.int64(7))] == [1, 7]
    assert whole("n", -7) == -7
    for value in (0, "2", 1.5, None):
        with pytest.raises(ConfigError, match=f"a whole number, 1 or more, not {value!r}$"):
            whole("n", value, least=1)


def test_weights_may_be_given_as_text(root: Path) -> None:
    path = root / "models/span-x2.safetensors"
    assert load_network(weights=str(path)).scale == load_network(path).scale == 2
    assert EncoderConfig(crf=18).crf == 18
    assert InputConfig(field_order=FieldOrder.TT).field_order is FieldOrder.TT
