"""Render the sample clip that ships with the project: fine detail, motion and sound.

    python scripts/make_sample.py docs/sample.mp4

Everything is drawn, nothing is photographed. The picture is rendered at three times its size and
reduced with antialiasing, so that it holds true detail up to its last pixel.
"""

import argparse
import math
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, RATE, SECONDS = 320, 180, 24, 4
SUPERSAMPLING = 3
SOUND_RATE = 48_000
INK, PAPER = (28, 34, 48), (238, 232, 218)


def draw_frame(seconds: float) -> Image.Image:
    """The picture at a time, WIDTH x HEIGHT."""
    scale = SUPERSAMPLING
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), PAPER)
    draw = ImageDraw.Draw(image)
    _gradient(image)
    _star(draw, (250 * scale, 60 * scale), 48 * scale, seconds * 0.4)
    _fence(draw, scale, seconds)
    _gear(draw, (70 * scale, 62 * scale), 34 * scale, -seconds * 0.8)
    _text(draw, scale, seconds)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _gradient(image: Image.Image) -> None:
    width, height = image.size
    fall = np.linspace(0, 1, height)[:, None, None]
    sky, ground = np.array([120, 170, 215]), np.array([240, 225, 190])
    rows = np.broadcast_to(sky * (1 - fall) + ground * fall, (height, width, 3))
    image.paste(Image.fromarray(rows.astype(np.uint8)))


def _star(draw: ImageDraw.ImageDraw, centre: tuple[int, int], radius: float, angle: float) -> None:
    """A Siemens star: ever finer wedges towards its centre."""
    box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    draw.ellipse(box, fill=PAPER)
    for wedge in range(24):
        start = math.degrees(angle) + wedge * 15
        draw.pieslice(box, start, start + 7.5, fill=INK)


def _gear(draw: ImageDraw.ImageDraw, centre: tuple[int, int], radius: float, angle: float) -> None:
    points = []
    for tooth in range(14):
        for offset, size in ((0.0, 1.0), (0.22, 1.0), (0.28, 0.82), (0.44, 0.82)):
            turn = angle + (tooth + offset * 2) * 2 * math.pi / 14
            points.append(
                (
                    centre[0] + radius * size * math.cos(turn),
                    centre[1] + radius * size * math.sin(turn),
                )
            )
    draw.polygon(points, fill=(176, 64, 52), outline=INK, width=SUPERSAMPLING)
    hole = radius * 0.35
    draw.ellipse(
        (centre[0] - hole, centre[1] - hole, centre[0] + hole, centre[1] + hole),
        fill=PAPER, outline=INK, width=SUPERSAMPLING,
    )  # fmt: skip


def _fence(draw: ImageDraw.ImageDraw, scale: int, seconds: float) -> None:
    """Thin slanted bars that pan: aliasing shows at once."""
    shift = seconds * 12 * scale
    for bar in range(-10, 60):
        x = bar * 9 * scale - shift
        top, foot = (x + 14 * scale, 118 * scale), (x, 152 * scale)
        draw.line((top, foot), fill=(52, 92, 60), width=scale)
    for y in (124, 144):
        draw.line(((0, y * scale), (WIDTH * scale, y * scale)), fill=(52, 92, 60), width=scale)


def _text(draw: ImageDraw.ImageDraw, scale: int, seconds: float) -> None:
    text = "the quick brown fox jumps over the lazy dog - 0123456789 - super-resolution - "
    font = ImageFont.load_default(size=13 * scale)
    draw.rectangle((0, 158 * scale, WIDTH * scale, HEIGHT * scale), fill=INK)
    draw.text((-seconds * 30 * scale, 161 * scale), text * 2, fill=PAPER, font=font)


def make_sound() -> NDArray[np.float32]:
    """A soft chord, (2, samples) float32, with a beat each second to check sync by ear."""
    time = np.arange(SOUND_RATE * SECONDS) / SOUND_RATE
    chord = sum(np.sin(2 * math.pi * pitch * time) for pitch in (220.0, 277.18, 329.63)) / 12
    beat = np.sin(2 * math.pi * 880 * time) * np.exp(-24 * (time % 1.0)) / 4
    fade = np.clip(np.minimum(time, SECONDS - time) * 8, 0, 1)
    sway = 0.5 + 0.3 * np.sin(2 * math.pi * time / SECONDS)
    mixed = (chord * sway + beat) * fade, (chord * (1 - sway) + beat) * fade
    return np.stack(mixed).astype(np.float32)


def write(path: Path) -> None:
    """Render and encode the clip."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "slow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.colorspace = video.codec_context.color_primaries = 6
        video.codec_context.color_trc, video.codec_context.color_range = 6, 1
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
        for index in range(RATE * SECONDS):
            drawn = np.asarray(draw_frame(index / RATE))
            frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            picture = frame.reformat(format="yuv420p", dst_colorspace=6, dst_color_range=1)
            picture.pts, picture.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(picture))
        sound = av.AudioFrame.from_ndarray(make_sound(), format="fltp", layout="stereo")
        sound.sample_rate, sound.pts = SOUND_RATE, 0
        sound.time_base = Fraction(1, SOUND_RATE)
        container.mux(audio.encode(sound))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def main() -> int:
    """Write the clip to the path on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", default=Path("docs/sample.mp4"))
    write(parser.parse_args().output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
