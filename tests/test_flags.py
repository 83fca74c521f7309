"""A configuration written as flags is read back as the same configuration."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from vsr.cli.configuration import make_config
from vsr.cli.options import build_parser
from vsr.config import (
    DECODERS,
    DITHERS,
    HWACCELS,
    PRECISIONS,
    RUNTIMES,
    EncoderConfig,
    FieldsConfig,
    InputConfig,
    UpscaleConfig,
)
from vsr.flags import command_line
from vsr.tags import FieldOrder, Range, Siting

PLAIN = UpscaleConfig(input=Path("a b.mkv"), output=Path("out.mkv"))
FULL = UpscaleConfig(
    input=Path("in.raw"), output=Path("-"), muxer="matroska", target="archive",
    source=InputConfig(
        raw_size=(720, 576), raw_format="yuv422p10le", rate=Fraction(24000, 1001), matrix=5,
        range=Range.FULL, primaries=5, transfer=6, siting=Siting.TOP_LEFT, sar=Fraction(16, 15),
        field_order=FieldOrder.BT, video_stream=2, self_contained=True,
    ),
    fields=FieldsConfig(deinterlace="bwdif", field_rate=True), filters="crop=704:576,nlmeans=s=2",
    crop=False, square=True, weights=Path("w.pth"), variant="sst+", scale=4,
    device="cuda:1", precision="fp32", tile=256, dither="ordered",
    reuse_threshold=1.5, hwaccel="cuda", start=Fraction(3, 8),
    end=Fraction(100), frames=9, overwrite=True, record=False, framemd5=True,
    encoder=EncoderConfig(
        codec="libx264", crf=17.5, preset="slow", pix_fmt="yuv420p", range=Range.LIMITED,
        sound="web",
        options={"tune": "grain", "x264-params": "cll=1,2"},
        muxer_options={"movflags": "+faststart", "fflags": "+bitexact"}, first_number=0,
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        FULL,
        UpscaleConfig(input=Path("-"), output=None, scale=Fraction(27, 10)),
        UpscaleConfig(input=Path("a.dv"), output=Path("b.mov"), fields=FieldsConfig(ivtc=True)),
        UpscaleConfig(
            input=Path("a.ts"), output=Path("b.mkv"),
            fields=FieldsConfig(deinterlace="yadif", flagged_only=True),
        ),
        UpscaleConfig(
            input=Path("a.dv"), output=Path("b.mov"), size=(1440, 1080), record=True,
            framemd5=False, fields=FieldsConfig(progressive=True), source=InputConfig(matrix=0),
        ),
    ],
)  # fmt: skip
def test_flags_lead_back(config):
    options = build_parser().parse_intermixed_args(command_line(config))
    assert make_config(options) == config


@pytest.mark.parametrize(
    "given",
    [{"hwaccel": word} for word in HWACCELS]
    + [{"precision": word} for word in PRECISIONS]
    + [{"runtime": word} for word in RUNTIMES]
    + [{"dither": word} for word in DITHERS]
    + [{"decoder": word} for word in DECODERS]
    + [
        {"model": "auto"},
        {"segment_seconds": 0.0},
        {"segment_seconds": 2.5},
        {"resume": True},
        {"restart": True},
    ],
    ids=str,
)
def test_every_choice_leads_back(given):
    config = replace(PLAIN, **given)
    assert make_config(build_parser().parse_intermixed_args(command_line(config))) == config


def test_what_is_left_open_is_left_out():
    assert command_line(PLAIN) == ["-i", "a b.mkv", "-o", "out.mkv", "--model", "span"]
