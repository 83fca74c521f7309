"""MP4 of a film with long gaps: no picture waits for one of them between decoding and display."""

import random
import subprocess
from fractions import Fraction
from itertools import accumulate, pairwise

import av
import pytest

from vsr.cli import main
from vsr.sinks.clock import Gap
from vsr.sinks.decoding_times import GapCloser

HOURS = 2 * 3_600_000  # more than 2^28 of the 16,000 ticks a second that the muxer takes for 1,000


def packets(path):
    with av.open(str(path)) as container:
        return [p for p in container.demux(video=0) if p.size]


def longest_wait(found):
    return max((p.pts - p.dts) * p.time_base for p in found)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("muxer_options", [{}, {"movflags": "frag_keyframe+delay_moov"}])
def test_no_picture_waits_for_a_gap(tmp_path, tools, codec, muxer_options):
    path, kind = tmp_path / "out.mp4", {"codec": codec, "options": {"bf": "3"}}
    times = tools.schedule([40] * 10 + [HOURS] + [40] * 8 + [HOURS] + [40] * 3)
    tools.write(path, tools.info(), times, **kind, muxer_options=muxer_options)
    found = packets(path)
    ticks = [round(p.pts * p.time_base * 1000) for p in found]
    assert sorted(ticks) == [time for time, _ in times]
    assert ticks != sorted(ticks)  # there are B-frames
    assert longest_wait(found) < 1
    assert all(before.dts < after.dts for before, after in pairwise(found))
    keys = {time for time, packet in zip(ticks, found, strict=True) if packet.is_keyframe}
    assert {times[11][0], times[20][0]} <= keys


def test_what_an_encoder_orders_across_a_gap_is_said(tmp_path, tools):
    """MPEG-4's, whose pictures ahead of a key frame may come behind it."""
    path = tmp_path / "out.mp4"
    times = tools.schedule([40] * 5 + [3 * HOURS] + [40] * 6)
    sink = tools.write(path, tools.info(), times, codec="mpeg4", options={"bf": "2"})
    assert longest_wait(packets(path)) > 3600
    assert any("coded too long before they are shown" in note for note in sink.notes)


def test_in_segments(tmp_path, tools):
    clip, output = tmp_path / "in.mkv", tmp_path / "out.mp4"
    gap = f"settb=1/1000,setpts='N*40+if(gt(N,20),{HOURS},0)'"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25", "-vf", gap]
    command += ["-frames:v", "30", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
    subprocess.run([*command, "-c:v", "ffv1", str(clip)], check=True)
    options = ["--model", "identity", "--resume", "--segment-seconds", "0.4"]
    assert main([str(clip), str(output), *options]) == 0
    assert longest_wait(packets(output)) < 1
    assert sorted(p.pts for p in packets(output)) == [
        p.pts * (packets(clip)[0].time_base / packets(output)[0].time_base) for p in packets(clip)
    ]


def coded(shown, groups):
    """Packets of ``groups`` of frames, coded like x264's: the last of three first."""
    order = []
    for group in groups:
        order.append(group[0])
        for at in range(1, len(group), 3):
            order += [*group[at : at + 3][-1:], *group[at : at + 3][:-1]]
    delay = 2
    for number, pts in enumerate(order):
        packet = av.Packet(b"x")
        packet.pts, packet.time_base = pts, Fraction(1, 25)
        packet.dts = shown[number - delay] if number >= delay else number - delay
        yield packet


@pytest.mark.parametrize("seed", range(20))
def test_decoding_times_rise_and_precede_display(seed):
    """With gaps wherever, also several in a row, and behind every one a new group."""
    chance = random.Random(seed)
    steps = [chance.choice([1, 1, 1, 1, 2, 10_000]) for _ in range(40)]
    shown = [0, *accumulate(steps)]
    gaps = [Gap(*pair) for pair in pairwise(shown) if pair[1] - pair[0] == 10_000]
    starts = [0, *(shown.index(gap.after) for gap in gaps), len(shown)]
    groups = [shown[start:end] for start, end in pairwise(starts)]
    closer, known, out = GapCloser(present := [], 1), gaps, []
    for held, packet in enumerate(coded(shown, groups), 1):
        present += [gap for gap in known if gap.after <= packet.pts]
        known = [gap for gap in known if gap.after > packet.pts]
        out += closer.add(packet)
        assert held - len(out) <= 3
    out += closer.flush()
    assert [p.pts for p in out] == [p.pts for p in coded(shown, groups)]
    times = [(p.pts or 0, p.dts or 0) for p in out]
    assert all(before < after for (_, before), (_, after) in pairwise(times))
    assert all(dts <= pts < dts + 20 for pts, dts in times)
