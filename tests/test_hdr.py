"""Static HDR metadata: reading FFmpeg's side data, and the words of the encoders."""

import re
import struct
from dataclasses import replace
from fractions import Fraction

import pytest

from vsr.hdr import (
    BITSTREAM_OPTIONS,
    AmbientViewing,
    ContentLight,
    HdrMetadata,
    MasteringDisplay,
    content_light,
    encoder_options,
    held_by_container,
    lost_metadata,
    parse_ambient_viewing,
    parse_content_light,
    parse_mastering_display,
)

# As FFmpeg 9 delivers it for a P3 display of 1000 cd/m² in BT.2020 (generated/hdr10_sei_only.mkv).
P3 = [
    (34000, 50000), (16000, 50000), (13250, 50000), (34500, 50000), (7500, 50000), (3000, 50000),
    (15635, 50000), (16450, 50000), (50, 10000), (10000000, 10000),
]  # fmt: skip
DISPLAY = MasteringDisplay(
    red=(Fraction("0.68"), Fraction("0.32")),
    green=(Fraction("0.265"), Fraction("0.69")),
    blue=(Fraction("0.15"), Fraction("0.06")),
    white=(Fraction("0.3127"), Fraction("0.329")),
    max_luminance=Fraction(1000),
    min_luminance=Fraction("0.005"),
)
LIGHT = ContentLight(max_cll=1000, max_fall=400)


def packed(pairs=P3, flags=(1, 1), **changes) -> bytes:
    pairs = [changes.get(f"n{index}", pair) for index, pair in enumerate(pairs)]
    return struct.pack("<22i", *(number for pair in pairs for number in pair), *flags)


def test_mastering_display_is_read_exactly():
    assert parse_mastering_display(packed()) == DISPLAY
    assert parse_mastering_display(packed() + b"more, in a later FFmpeg") == DISPLAY


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packed(flags=(1, 0)), "its luminance is flagged as not set"),
        (packed(flags=(0, 1)), "its primaries is flagged as not set"),
        (packed(flags=(0, 0)), "its primaries is flagged as not set"),
        (packed(n3=(34500, 0)), "it has denominators of 0"),
        (packed(n3=(0, 50000)), "its primaries are no chromaticities"),
        (packed(n6=(40000, 50000)), "its primaries are no chromaticities"),
        (packed(n0=(-1, 50000)), "its primaries are no chromaticities"),
        (packed(n9=(50, 10000)), "its luminance goes from 0.005 to 0.005 cd/m²"),
        (packed(n8=(-1, 1)), "its luminance goes from -1 to 1000 cd/m²"),
        (packed(n9=(2_000_000, 1)), "its luminance goes from 0.005 to 2e+06 cd/m²"),
        (packed()[:80], "it is cut off after 80 bytes"),
    ],
)
def test_invalid_mastering_display_says_why(data, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse_mastering_display(data)


def test_content_light_is_read_and_checked():
    assert parse_content_light(struct.pack("<II", 1000, 400)) == LIGHT
    assert parse_content_light(struct.pack("<II", 1000, 0)).max_fall == 0
    for data, reason in (
        (struct.pack("<II", 0, 0), "it is 0, which means unknown"),
        (struct.pack("<II", 70000, 400), "70000 and 400 cd/m² are beyond its 16 bits"),
        (b"\0\0\0", "it is cut off after 3 bytes"),
    ):
        with pytest.raises(ValueError, match=reason):
            parse_content_light(data)
    with pytest.raises(ValueError, match="-1 and 400 cd/m² are beyond its 16 bits"):
        content_light(-1, 400)


def test_ambient_viewing_environment_is_read_and_checked():
    d65 = (15635, 50000, 16450, 50000)
    found = parse_ambient_viewing(struct.pack("<6i", 3_140_000, 10_000, *d65))
    light = (Fraction("0.3127"), Fraction("0.329"))
    assert found == AmbientViewing(illuminance=Fraction(314), light=light)
    assert found.in_units() == (3_140_000, 15635, 16450)
    for data, reason in (
        (struct.pack("<6i", 0, 1, *d65), "it is 0 lux, which means unknown"),
        (struct.pack("<6i", 5, 0, *d65), "it has denominators of 0"),
        (struct.pack("<6i", 5, 1, 1, 1, 1, 1), "its light is no chromaticity"),
        (bytes(23), "it is cut off after 23 bytes"),
    ):
        with pytest.raises(ValueError, match=reason):
            parse_ambient_viewing(data)


def test_units_are_those_of_the_standard():
    units = (13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50)
    assert DISPLAY.in_units() == units
    of_av1 = replace(DISPLAY, red=(Fraction(44564, 65536), Fraction(20972, 65536)))
    assert of_av1.in_units() == units


def test_encoders_are_told_in_their_own_words():
    both = HdrMetadata(mastering=DISPLAY, light=LIGHT)
    integers = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    floats = "G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005)"
    for codec, words in (
        ("libx265", f"master-display={integers}:max-cll=1000,400"),
        ("libx264", f"mastering-display={integers}:cll=1000,400"),
        ("libsvtav1", f"mastering-display={floats}:content-light=1000,400"),
    ):
        assert encoder_options(codec, both) == {BITSTREAM_OPTIONS[codec]: words}


@pytest.mark.parametrize("codec", BITSTREAM_OPTIONS)
def test_only_what_is_known_is_said(codec):
    words = encoder_options(codec, HdrMetadata(light=LIGHT))[BITSTREAM_OPTIONS[codec]]
    assert "1000,400" in words
    assert "display" not in words
    words = encoder_options(codec, HdrMetadata(mastering=DISPLAY))[BITSTREAM_OPTIONS[codec]]
    assert "display" in words
    assert "1000,400" not in words
    assert encoder_options(codec, HdrMetadata()) == {}
    assert encoder_options(codec, None) == {}


def test_other_encoders_and_containers_hold_nothing():
    assert encoder_options("ffv1", HdrMetadata(light=LIGHT)) == {}
    assert held_by_container("matroska", "ffv1")
    assert not held_by_container("avi", "ffv1")
    assert not held_by_container("matroska", "rawvideo")


def test_losses_have_names():
    ambient = AmbientViewing(illuminance=Fraction(314), light=DISPLAY.white)
    everything = HdrMetadata(mastering=DISPLAY, light=LIGHT, ambient=ambient)
    surroundings = "the ambient viewing environment"
    assert lost_metadata(everything, "libx265", "hevc", "mov") == []
    assert lost_metadata(everything, "libx265", "hevc", "matroska") == [surroundings]
    assert lost_metadata(everything, "libx265", "hevc", "mpegts") == [surroundings]
    assert lost_metadata(everything, "ffv1", "ffv1", "avi") == [
        "HDR mastering metadata",
        surroundings,
    ]
    assert lost_metadata(HdrMetadata(ambient=ambient), "ffv1", "ffv1", "avi") == [surroundings]
    assert lost_metadata(None, "ffv1", "ffv1", "avi") == []
