import pytest
import torch

pytest.importorskip("triton")

from vsr.colour import FromRgb
from vsr.errors import ConfigError
from vsr.frame import Colour, Matrix, Range, Siting, pixel_format
from vsr.networks import classical, describe
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.runtimes.triton import why_not_here

CPU = torch.device("cpu")


def network(**settings):
    config = SpanConfig(**settings)
    return describe("span", Span(config).eval().requires_grad_(False), config)


def test_triton_is_refused_on_a_cpu_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^runtime triton: the kernels are for CUDA, not") as e:
        make_runtime(network(), CPU, torch.float16, "triton")
    assert "\n" not in str(e.value)


def test_a_runtime_has_no_fused_end_unless_it_says_so() -> None:
    colour = Colour(
        matrix=Matrix.BT709, range=Range.LIMITED, primaries=1, transfer=1, siting=Siting.LEFT
    )
    convert = FromRgb(pixel_format("yuv420p"), colour, 8, 8, CPU)
    assert EagerRuntime(network(), CPU, torch.float32).delivers(convert) is None


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("wrong", "dtype", "reason"),
    [
        (classical("lanczos", 2), torch.float16, "SPAN, no other network"),
        (network(), torch.float32, "fp16 or bf16, not in fp32"),
        (network(in_channels=1, out_channels=1, norm=False), torch.float16, "from RGB to RGB"),
    ],
)
def test_what_the_kernels_do_not_run(wrong, dtype, reason) -> None:
    assert reason in (why_not_here(wrong, torch.device("cuda"), dtype) or "")


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_close_to_float32_on_a_device(dtype, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    device, span = torch.device("cuda", torch.cuda.current_device()), network(norm=False)
    picture = torch.rand(1, 3, 67, 133, device=device)
    exact = EagerRuntime(span, device, torch.float32)(picture)
    found = make_runtime(span, device, dtype, "triton")(picture)
    error = (found - exact).square().mean()
    assert -10 * error.log10() > (60 if dtype == torch.float16 else 45)
    again = make_runtime(span, device, dtype, "triton")(picture)  # as remembered
    assert torch.equal(found, again)
