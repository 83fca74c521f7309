"""Arrays in, arrays out: against the network's own forward pass, in every type and layout."""

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import vsr
from vsr.cli import main
from vsr.colour import FromRgb
from vsr.errors import ConfigError
from vsr.upscaler import Upscaler
from vsr.weights import load_network


@pytest.fixture(scope="module")
def span() -> Upscaler:
    return Upscaler("span", precision="fp32", runtime="torch", device="cpu")


def forward(picture: Tensor) -> Tensor:
    """(3, H, W) through the network alone."""
    with torch.inference_mode():
        return load_network("span").module(picture[None])[0]  # type: ignore[no-any-return]


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).random(shape, np.float32)


def test_a_tensor_is_what_the_network_makes_of_it(span: Upscaler) -> None:
    picture = torch.from_numpy(noise(3, 21, 30))
    out = span(picture)
    assert out.shape == (3, 42, 60)
    torch.testing.assert_close(out, forward(picture), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integers_are_rounded_and_limited(span: Upscaler, kind: Any, white: int) -> None:
    picture = (noise(20, 33, 3) > 0.5).astype(kind) * kind(white)  # overshoots at every edge
    out = span(picture)
    assert (out.dtype, out.shape) == (kind, (40, 66, 3))
    exact = forward(torch.from_numpy(picture / white).float().movedim(-1, 0)).movedim(0, -1)
    wanted = (exact.double() * white).round().clamp(0, white).numpy()
    assert np.abs(out.astype(float) - wanted).max() <= max(1, white / 20000)
    assert exact.min() < -0.01


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_keep_their_type(span: Upscaler, kind: Any) -> None:
    out = span(noise(8, 9, 3).astype(kind))
    assert (out.dtype, out.shape) == (kind, (16, 18, 3))


def test_layouts(span: Upscaler) -> None:
    pictures = noise(2, 2, 16, 24, 3)
    out = span(pictures)
    assert out.shape == (2, 2, 32, 48, 3)
    np.testing.assert_allclose(out[1, 0], span(pictures[1, 0]), atol=1e-6)
    turned = span(pictures[0, 0][:, ::-1].transpose(1, 0, 2))  # neither contiguous nor forward
    copied = span(np.ascontiguousarray(pictures[0, 0][:, ::-1].transpose(1, 0, 2)))
    np.testing.assert_array_equal(turned, copied)
    tensor = span(torch.from_numpy(pictures).movedim(-1, -3))
    np.testing.assert_allclose(tensor.movedim(-3, -1).numpy(), out, atol=1e-6)


def test_gray_and_alpha(span: Upscaler) -> None:
    gray = noise(12, 18)
    out = span(gray)
    assert out.shape == (24, 36)
    np.testing.assert_array_equal(span(gray[..., None])[..., 0], out)
    colour = noise(12, 18, 3)
    both = span(np.concatenate([colour, gray[..., None]], axis=-1))
    np.testing.assert_array_equal(both[..., :3], span(colour))
    thrice = span(np.stack([gray] * 3, axis=-1))
    np.testing.assert_allclose(both[..., 3], thrice.mean(-1), atol=1e-6)


@pytest.mark.parametrize("channels", [(), (4,)], ids=["gray", "alpha"])
def test_gray_and_alpha_are_what_the_command_makes_of_them(
    span: Upscaler, tmp_path: Path, channels: tuple[int, ...]
) -> None:
    picture = (noise(40, 48, *channels) * 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    command = [tmp_path / "in.png", tmp_path / "out.png", "--device", "cpu"]
    assert main([*map(str, command), "--runtime", "torch", "--precision", "fp32"]) == 0
    with Image.open(tmp_path / "out.png") as written:
        difference = np.abs(span(picture).astype(int) - np.asarray(written))
    assert difference.max() <= 1
    assert difference.mean() < 1e-3  # what lies at a half is rounded either way


def test_tiles_and_odd_sizes() -> None:
    picture = noise(41, 67, 3)
    whole = Upscaler("span-fast", precision="fp32", device="cpu", runtime="torch")
    tiled = Upscaler("span-fast", precision="fp32", device="cpu", runtime="torch", tile=32)
    assert whole(picture).shape == (82, 134, 3)
    np.testing.assert_allclose(tiled(picture), whole(picture), atol=1e-4)


def test_what_runs_by_itself_is_close() -> None:
    picture = noise(40, 48, 3)
    chosen = Upscaler("span", device="cpu")
    assert np.abs(chosen(picture) - forward_last(picture)).mean() < 0.004


def forward_last(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    out: NDArray[np.float32] = (
        forward(torch.from_numpy(picture).movedim(-1, 0)).movedim(0, -1).numpy()
    )
    return out


def test_it_is_the_librarys() -> None:
    assert vsr.Upscaler is Upscaler
    assert vsr.Upscaler("lanczos", scale=3)(noise(5, 4, 3)).shape == (15, 12, 3)


@pytest.mark.parametrize(
    "shape", [(3,), (), (0, 5, 3), (5, 4, 2), (5, 4, 5)],
)  # fmt: skip
def test_what_is_no_picture_is_one_line(shape: tuple[int, ...]) -> None:
    upscaler = Upscaler("lanczos", device="cpu")
    with pytest.raises(ConfigError, match="a picture is an array") as caught:
        upscaler(np.zeros(shape, np.float32))
    assert str(caught.value).endswith(f"not of shape {shape}")


def test_other_types_are_one_line() -> None:
    upscaler = Upscaler("lanczos", device="cpu")
    with pytest.raises(ConfigError, match="from 0 to 1, not int32"):
        upscaler(np.zeros((4, 4, 3), np.int32))
    with pytest.raises(ConfigError, match="tile must be a whole number"):
        Upscaler("lanczos", tile=64.0)  # type: ignore[arg-type]


# What surrounds a call.


def test_torchs_defaults_change_nothing(rng) -> None:
    picture, upscaler = rng.random((20, 30, 3)).astype("float32"), Upscaler("span", scale=2)
    wanted = upscaler(picture)
    with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(upscaler(picture), wanted)
        assert np.array_equal(Upscaler("span", scale=2)(picture), wanted)
        other = Upscaler("lanczos")
        found = other(picture)
    assert np.array_equal(found, other(picture))


def test_another_default_type_is_refused(rng) -> None:
    picture, upscaler = rng.random((20, 30, 3)).astype("float32"), Upscaler("span", scale=2)
    torch.set_default_dtype(torch.float64)
    try:
        for run in (lambda: upscaler(picture), lambda: Upscaler("span")):
            with pytest.raises(ConfigError, match=r"set_default_dtype\(torch.float64\)"):
                run()
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_comes_out_may_be_changed_and_trained_on() -> None:
    out = Upscaler("lanczos")(torch.rand(3, 12, 10))
    out.clamp_(0, 1)
    weight = torch.ones(1, requires_grad=True)
    (out * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.filterwarnings("error")
def test_arrays_of_other_readers(rng) -> None:
    upscaler = Upscaler("lanczos")
    picture = rng.integers(0, 65535, (8, 9, 3), dtype="uint16")
    wanted = upscaler(picture)
    for order in "<>":
        found = upscaler(picture.astype(f"{order}u2"))
        assert np.array_equal(found, wanted)
        assert found.dtype == np.dtype(f"{order}u2")
    picture.flags.writeable = False
    assert np.array_equal(upscaler(picture), wanted)
    for strange in (picture.astype(np.longdouble), picture.astype(object), "picture", None):
        with pytest.raises(ConfigError):
            upscaler(strange)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "x"}, "precision must be one of auto, fp32"),
        ({"tile": 5}, "tile must be at least 16 pixels, not 5"),
        ({"weights": ""}, "weights must be the name of a file"),
        ({"scale": "two"}, "scale must be a number"),
    ],
)
def test_what_cannot_be_is_one_line(options, words) -> None:
    with pytest.raises(ConfigError, match=words):
        Upscaler("lanczos", **options)


def test_scales_are_written_in_full() -> None:
    for scale, words in ((Fraction(5, 2), "2.5"), (10**6, "1000000")):
        with pytest.raises(ConfigError, match=rf"has no scale {words}; it has 2, .*a run may name"):
            Upscaler("lanczos", scale=scale)


def test_auto_needs_a_source() -> None:
    with pytest.raises(ConfigError, match="model 'auto' is chosen by the source: give it to a run"):
        Upscaler("auto")


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_without_samples_are_one_line(span: Upscaler, kind: str) -> None:
    picture = torch.zeros(3, 8, 8)
    given = picture.to_sparse() if kind == "sparse" else picture.to("meta")
    with pytest.raises(ConfigError, match="holds each of its samples: this ") as error:
        span(given)
    assert "\n" not in str(error.value)


def test_a_model_that_is_no_name_is_one_line() -> None:
    with pytest.raises(ConfigError, match="model must be the name of a model, not 3"):
        Upscaler(3)  # type: ignore[arg-type]


def test_a_mask_is_not_lost(rng) -> None:
    picture = np.ma.masked_less(rng.random((8, 9, 3)), 0.5)
    with pytest.raises(ConfigError, match="a picture has no mask"):
        Upscaler("lanczos", device="cpu")(picture)


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_stays_in_its_process(take) -> None:
    with pytest.raises(TypeError, match="an Upscaler cannot be pickled or copied"):
        take(Upscaler("lanczos", device="cpu"))


def test_threads_that_share_one_wait_for_each_other(rng) -> None:
    """Our own kernels have buffers; pictures of several threads were mixed in them."""
    shared = Upscaler("span", device="cpu")
    pictures = [rng.integers(0, 255, (24, 32, 3), np.uint8) for _ in range(12)]
    expected = [shared(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(shared, pictures), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_one_that_is_not_used_any_more_leaves_nothing(rng, runtime) -> None:
    """At once: its memory and threads do not wait for the garbage collector."""
    picture = rng.integers(0, 255, (24, 32, 3), np.uint8)
    Upscaler("span", device="cpu", runtime=runtime)(picture)  # what the process keeps
    gc.collect()
    before = threading.active_count()
    gc.disable()
    try:
        upscaler = Upscaler("span", device="cpu", runtime=runtime)
        upscaler(picture)
        network, owned = weakref.ref(upscaler.network.module), weakref.ref(upscaler._runtime)
        del upscaler
        assert (network(), owned()) == (None, None)
        assert threading.active_count() <= before
    finally:
        gc.enable()


def test_frames_of_a_file_are_enlarged_as_by_a_run(
    span: Upscaler, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip, output = make_clip("in.mp4", frames=3), tmp_path / "out.mkv"
    config = vsr.UpscaleConfig(
        input=clip, output=output, device="cpu", runtime="torch", precision="fp32",
        encoder=vsr.EncoderConfig(codec="ffv1"),
    )  # fmt: skip
    vsr.upscale(config)
    with vsr.open_source(clip) as source, vsr.open_source(output) as result:
        frames, expected = list(source), list(result)  # all are kept, whatever is decoded next
    for frame, wanted in zip(frames, expected, strict=True):
        rgb = vsr.to_rgb(frame)
        assert (rgb.shape, rgb.dtype) == ((3, *frame.shape), torch.float32)
        back = FromRgb(wanted.format, wanted.colour, wanted.width, wanted.height, rgb.device)
        for found, plane in zip(back(span(rgb)[None]), wanted.components, strict=True):
            assert (found.int() - plane.int()).abs().max() <= 1
