import copy
import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend
from torch.nn.attention.flex_attention import flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

from vsr.networks import attention, attention_kernels
from vsr.networks.attention import (
    ImplicitBiasAttention,
    RelativeBiasAttention,
    WindowAttention,
    fold_attention,
    pad_to_multiple,
)
from vsr.networks.attention_kernels import choose_kernel

CPU = torch.device("cpu")
HALVES = (torch.bfloat16, torch.float16)


def filled(module: WindowAttention) -> WindowAttention:
    """With parameters so large that every bias matters."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval().requires_grad_(False)


def implicit(channels: int, heads: int, window: int, rank: int) -> WindowAttention:
    return filled(ImplicitBiasAttention(channels, heads, window, rank, hidden=8, frequencies=3))


def relative(channels: int, heads: int, window: int) -> WindowAttention:
    return filled(RelativeBiasAttention(channels, heads, window))


MODULES = {
    "window 8, rank 16, width 16": lambda: implicit(48, 3, 8, 16),
    "window 4, rank 2, width 6 (8 columns)": lambda: implicit(12, 2, 4, 2),
    "window 8, rank 3, width 4 (padded to 8)": lambda: implicit(4, 1, 8, 3),
    "window 6, rank 9, width 5 (padded to 16)": lambda: implicit(10, 2, 6, 9),
    "window 8, relative": lambda: relative(16, 2, 8),
    "window 6, relative, width 5 (padded to 8)": lambda: relative(15, 3, 6),
}


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> WindowAttention:
    return MODULES[request.param]()


def channels_of(module: WindowAttention) -> int:
    return module.heads * module.width


def picture(module: WindowAttention, height: int, width: int, count: int = 1) -> Tensor:
    shape = (count, channels_of(module), height, width)
    return torch.randn(shape).to(memory_format=torch.channels_last)


def folded_copy(module: WindowAttention, dtype: torch.dtype | None = None) -> WindowAttention:
    folded = copy.deepcopy(module)
    folded.fold(dtype)
    return folded


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for three windows of 8 at once."""
    monkeypatch.setitem(attention_kernels.GROUP_TOKENS, "cpu", 3 * 64)


# Two forms, one function.

SIZES = [
    (24, 24),  # no window is mirrored (windows of 6 and 8)
    (13, 24), (31, 18),  # each side in part
    (9, 10),  # more than half a window is missing
    (3, 2), (2, 20), (1, 1),  # less than half a window is there: mirrored again and again
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_both_forms_are_equal(module: WindowAttention, size: tuple[int, int]) -> None:
    x = picture(module, *size)
    expected = module(x)
    assert expected.std() > 0.05
    torch.testing.assert_close(folded_copy(module)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("size", [(8, 8), (40, 24), (17, 57)], ids=str)
def test_groups_and_batches_change_nothing(module: WindowAttention, size: tuple[int, int]) -> None:
    x = picture(module, *size, count=3)
    folded = folded_copy(module)
    torch.testing.assert_close(folded(x), module(x), rtol=1e-5, atol=1e-5)
    workspace = folded._workspace
    assert workspace is not None
    assert workspace.capacity == (3 * 64) // module.window**2
    single = torch.cat([folded(part) for part in x.split(1)])
    torch.testing.assert_close(folded(x), single, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "columns", "capacity", "groups"),
    [
        (23, 40, 32, 30),  # rows of 32 and 8 would be 46
        (12, 20, 8, 30), (8, 14, 8, 14), (4, 3, 128, 1), (1, 33, 32, 2), (5, 7, 1, 35),
        (3, 8, 2, 12),
    ],
)  # fmt: skip
def test_groups_are_few_and_cover_every_window_once(
    rows: int, columns: int, capacity: int, groups: int
) -> None:
    seen = torch.zeros(rows, columns, dtype=torch.int)
    found = list(attention._groups(rows, columns, capacity))
    for part in found:
        assert seen[part].numel() <= capacity
        seen[part] += 1
    assert (seen == 1).all()
    assert len(found) == groups


def test_a_window_larger_than_a_group_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention_kernels.GROUP_TOKENS, "cpu", 10)
    module = implicit(8, 1, 8, 4)
    x = picture(module, 17, 9)
    torch.testing.assert_close(folded_copy(module)(x), module(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_the_published_form_is_softmax_with_a_bias(biased: bool) -> None:
    """One window, in float64, with all scores written out."""
    module = relative(12, 2, 6) if biased else implicit(12, 2, 6, 4)
    module = module.double()
    x = torch.randn(1, 12, 6, 6, dtype=torch.float64)
    q, k, v = (
        part.reshape(36, 2, 6).transpose(0, 1)
        for part in module.to_qkv(x).permute(0, 2, 3, 1).flatten(0, 2).chunk(3, dim=1)
    )
    q_table, k_table, bias = module.position_tables()
    scores = q @ k.mT * 6**-0.5
    if biased:
        assert bias is not None
        table = module.get_parameter("relative_position_bias").view(2, 11, 11)
        for query, key in ((0, 0), (0, 35), (35, 0), (7, 20)):
            down, across = key // 6 - query // 6, key % 6 - query % 6
            assert torch.equal(bias[0, :, query, key], table[:, down + 5, across + 5])
        scores = scores + bias[0]
    else:
        assert q_table is not None
        assert k_table is not None
        scores = scores + torch.einsum("qhr,khr->hqk", q_table, k_table)
    expected = (scores.softmax(-1) @ v).transpose(0, 1).reshape(1, 6, 6, 12).permute(0, 3, 1, 2)
    torch.testing.assert_close(module.attend(x), expected, rtol=1e-6, atol=1e-6)


# Mirroring.


@pytest.mark.parametrize("size", [1, 4, 6, 16])
@pytest.mark.parametrize(
    ("height", "width"),
    [(16, 12), (13, 11), (9, 17), (8, 9), (5, 3), (2, 2), (1, 7), (7, 1), (1, 1)],
)
def test_mirroring_continues(height: int, width: int, size: int) -> None:
    x = torch.rand(2, 3, height, width)
    rows, columns = -height % size, -width % size
    found = pad_to_multiple(x, size)
    margins = ((0, 0), (0, 0), (0, rows), (0, columns))
    assert torch.equal(found, torch.from_numpy(np.pad(x.numpy(), margins, mode="reflect")))
    if rows < height and columns < width:
        assert torch.equal(found, F.pad(x, (0, columns, 0, rows), mode="reflect"))
    else:
        with pytest.raises(RuntimeError, match="size should be less"):
            F.pad(x, (0, columns, 0, rows), mode="reflect")


def test_a_picture_that_fits_is_not_copied() -> None:
    x = torch.rand(1, 3, 8, 12)
    assert pad_to_multiple(x, 4) is x


# The choice of a kernel.


class Calls:
    """What the kernel is given, and which backend PyTorch takes for it."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
        self._real = F.scaled_dot_product_attention

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor | None, scale: float
    ) -> Tensor:
        assert scale == 1.0
        self.seen.append((q, k, v, attn_mask))
        return self._real(q, k, v, attn_mask=attn_mask, scale=scale)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    log = Calls()
    monkeypatch.setattr(F, "scaled_dot_product_attention", log)
    return log


def backend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> SDPBackend:
    return SDPBackend(torch._fused_sdp_choice(q, k, v, mask, scale=1.0))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("tokens", "width", "value_width"), [(256, 48, 32), (1024, 48, 32), (256, 48, 30), (64, 64, 30)]
)
def test_scores_are_never_stored(
    calls: Calls, dtype: torch.dtype, tokens: int, width: int, value_width: int, biased: bool
) -> None:
    kernel = choose_kernel(CPU, dtype, width, value_width, biased)
    q, k = torch.randn(2, 2, tokens, 4, width).mul(width**-0.25).to(dtype)
    v = torch.randn(2, tokens, 4, value_width).to(dtype)
    padded = F.pad(v, (0, kernel.value_width - value_width))
    bias = torch.randn(1, 4, tokens, tokens).to(dtype) if biased else None
    found = kernel.run(q, k, padded, bias)[..., :value_width]
    ((seen_q, seen_k, seen_v, mask),) = calls.seen
    assert backend(seen_q, seen_k, seen_v, mask) == SDPBackend.FLASH_ATTENTION
    unpadded = v.transpose(1, 2)
    assert backend(seen_q, seen_k, unpadded, mask) == SDPBackend.MATH  # what padding is for
    q64, k64, v64 = (part.double().transpose(1, 2) for part in (q, k, v))
    scores = q64 @ k64.mT + (0 if bias is None else bias.double())
    expected = (scores.softmax(-1) @ v64).transpose(1, 2)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (found.double() - expected).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules_store_no_scores(calls: Calls, module: WindowAttention, dtype: torch.dtype) -> None:
    folded = folded_copy(module).to(dtype)
    folded(picture(module, 17, 9).to(dtype))
    assert calls.seen
    for q, k, v, mask in calls.seen:
        assert q.dtype == dtype
        assert backend(q, k, v, mask) == SDPBackend.FLASH_ATTENTION


def test_no_kernel_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    math = SDPBackend.MATH.value
    monkeypatch.setattr(torch, "_fused_sdp_choice", lambda *_, **__: math)
    with pytest.raises(NotImplementedError, match="no attention kernel for cpu"):
        choose_kernel(CPU, torch.float32, 4096, 4095, False)


def test_a_kernel_is_chosen_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    attention_kernels._choose_kernel.cache_clear()
    with caplog.at_level(logging.INFO, logger="vsr"):
        for _ in range(2):
            folded = folded_copy(implicit(96, 2, 8, 16))
            for _ in range(2):
                folded(picture(folded, 16, 16))
    assert [r.getMessage() for r in caplog.records] == [
        "attention 64/48 on cpu in float32: sdpa flash_attention 64/64"
    ]
    assert attention_kernels._choose_kernel.cache_info().misses == 1
    folded_copy(implicit(96, 2, 8, 16)).to(torch.bfloat16)(picture(folded, 8, 8).to(torch.bfloat16))
    assert attention_kernels._choose_kernel.cache_info().misses == 2


def fixed(name: str) -> attention_kernels.Kernel:
    return attention_kernels.Kernel(name, 16, attention_kernels.sdpa)


def choose(monkeypatch: pytest.MonkeyPatch, times: dict[str, float | Exception]) -> str:
    """What is chosen on a GPU where candidates take so long, or fail so."""

    def milliseconds(kernel: attention_kernels.Kernel, *_: object) -> float:
        taken = times[kernel.name]
        if isinstance(taken, Exception):
            raise taken
        return taken

    kernels = [fixed(name) for name in times]
    monkeypatch.setattr(attention_kernels, "_sdpa_kernels", lambda *_: kernels[:1])
    monkeypatch.setattr(attention_kernels, "_backends", lambda *_: kernels[1:])
    monkeypatch.setattr(attention_kernels, "_extra_kernels", lambda *_: [])
    monkeypatch.setattr(attention_kernels, "_sample", lambda *_: ())
    monkeypatch.setattr(attention_kernels, "_milliseconds", milliseconds)
    monkeypatch.setattr(attention_kernels, "_result", lambda *_: torch.ones(2, 3))
    choose = attention_kernels._choose_kernel.__wrapped__
    chosen = choose(torch.device("cuda"), torch.float16, 32, 16, False)
    return str(chosen.name)


def test_the_fastest_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = RuntimeError("no such kernel\nin this build")
    assert choose(monkeypatch, {"a": 1.0, "b": 0.95, "c": broken}) == "a"  # not worth it
    assert choose(monkeypatch, {"a": 1.0, "b": 0.5, "c": 0.7}) == "b"
    assert choose(monkeypatch, {"a": broken, "b": 0.5, "c": 9.0}) == "b"
    message = r"no attention kernel works here \(of a, b\): no such kernel$"
    with pytest.raises(NotImplementedError, match=message):
        choose(monkeypatch, {"a": broken, "b": ValueError("nor this")})
    full = torch.OutOfMemoryError("full")
    assert choose(monkeypatch, {"a": full, "b": 0.5}) == "b"
    with pytest.raises(torch.OutOfMemoryError):  # which smaller tiles may answer
        choose(monkeypatch, {"a": full, "b": full})


def test_threads_that_ask_together_share_one_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """And kernels are timed on the device that they are for, which need not be the current one."""
    device, asked, current = torch.device("cuda", 1), list[object](), [torch.device("cuda", 0)]

    @contextmanager
    def enter(entered: torch.device) -> Iterator[None]:
        current.append(entered)
        yield
        current.pop()

    def candidates(*_: object) -> list[attention_kernels.Kernel]:
        asked.append(current[-1])
        time.sleep(0.05)  # so that the others come meanwhile
        return [fixed("a")]

    monkeypatch.setattr(torch.cuda, "device", enter)
    monkeypatch.setattr(attention_kernels, "_sdpa_kernels", candidates)
    for name in ("_backends", "_extra_kernels"):
        monkeypatch.setattr(attention_kernels, name, lambda *_: [])
    odd = 7, 3  # widths that no network has: the choice stays for good
    with ThreadPoolExecutor(4) as pool:
        each = [pool.submit(choose_kernel, device, torch.float16, *odd, False) for _ in range(4)]
    assert asked == [device]
    assert len({id(done.result()) for done in each}) == 1


@pytest.mark.parametrize("biased", [False, True])
def test_what_is_wrong_is_never_chosen(
    biased: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By SDPA itself on a CPU: without the bias, with its heads mixed up, and with wider values."""
    sdpa = attention_kernels.sdpa
    monkeypatch.setattr(attention_kernels, "GROUP_TOKENS", {"cpu": 2048})
    monkeypatch.setattr(attention_kernels, "_milliseconds", lambda kernel, *_: float(kernel.name))
    sample = attention_kernels._sample(CPU, torch.float32, 8, biased)
    right = attention_kernels.Kernel("9", 8, sdpa)
    wrong = attention_kernels.Kernel("1", 8, lambda q, k, v, bias: sdpa(q, k, v, bias).flip(2))
    wide = attention_kernels.Kernel("3", 16, sdpa)
    unbiased = attention_kernels.Kernel("2", 8, lambda q, k, v, bias: sdpa(q, k, v, None))
    others = [wrong, unbiased, wide] if biased else [wrong, wide]
    assert attention_kernels._fastest([right, *others], sample) == wide
    assert caplog.text.count("it is wrong here") == len(others) - 1


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_every_backend_is_a_candidate_and_takes_what_it_is_given(
    dtype: torch.dtype, biased: bool
) -> None:
    """By shapes alone, on no device; SDPA itself would take the first for everything."""
    taken = [fixed("sdpa cudnn_attention 48/32"), fixed("sdpa cudnn_attention 48/48")]
    found = list(attention_kernels._backends(dtype, 48, 30, biased, taken))
    efficient = ["sdpa efficient_attention 48/32", "sdpa efficient_attention 48/48"]
    half = dtype != torch.float32
    assert [kernel.name for kernel in found] == [
        *(["sdpa flash_attention 48/48"] if half and not biased else []), *efficient
    ]  # fmt: skip
    others = list(attention_kernels._backends(dtype, 48, 30, biased, []))
    assert len(others) == len(found) + 2 * half
    q = torch.empty(3, 64, 2, 48, dtype=dtype, device="meta")
    bias = torch.empty(1, 2, 64, 64, dtype=dtype, device="meta") if biased else None
    for kernel in others:
        v = torch.empty(3, 64, 2, kernel.value_width, dtype=dtype, device="meta")
        assert kernel.run(q, q, v, bias).shape == v.shape


@pytest.mark.cuda
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tokens", [36, 1024])
def test_cuda_backends_are_equal(tokens: int, biased: bool) -> None:
    """Those that work here; one at least does."""
    device = torch.device("cuda", torch.cuda.current_device())
    q, k, v = (torch.randn(3, 4, tokens, 6, 32, device=device) * 32**-0.25).half()
    bias = torch.randn(1, 6, tokens, tokens, device=device).half() if biased else None
    expected, worked = attention_kernels.sdpa(q, k, v, bias), []
    for kernel in attention_kernels._backends(torch.float16, 32, 32, biased, []):
        try:
            found = kernel.run(q, k, v, bias)
        except RuntimeError:
            continue
        worked.append(kernel.name)
        assert (found - expected).abs().max() < 2e-2
    assert worked


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_adds_the_same_bias() -> None:
    q, k, v = torch.randn(3, 2, 64, 4, 16)
    bias = torch.randn(1, 4, 64, 64)
    found = attention_kernels._flex(flex_attention, q, k, v, bias)
    assert torch.allclose(found, attention_kernels.sdpa(q, k, v, bias), atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("width", "value_width"), [(32, 16), (40, 16), (48, 30), (64, 32)])
def test_cuda_attends_without_storing_scores(width: int, value_width: int, biased: bool) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    kernel = choose_kernel(device, torch.float16, width, value_width, biased)
    tokens = 4096
    q, k = (torch.randn(2, 4, tokens, 6, width, device=device) * width**-0.25).half()
    v = torch.randn(4, tokens, 6, kernel.value_width, device=device).half()
    v[..., value_width:] = 0
    bias = torch.randn(1, 6, tokens, tokens, device=device).half() if biased else None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    found = kernel.run(q, k, v, bias)
    assert torch.cuda.max_memory_allocated(device) - before < 4 * found.nbytes + (64 << 20)
    heads_first = [part[:1].float().transpose(1, 2) for part in (q, k, v)]
    scores = heads_first[0] @ heads_first[1].mT + (0 if bias is None else bias.float())
    expected = (scores.softmax(-1) @ heads_first[2]).transpose(1, 2)
    assert (found[:1] - expected).abs().max() < 2e-2


# Streaming.


class Ops(TorchDispatchMode):
    """Counts what PyTorch is asked to do, and the bytes of the tensors that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.made: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = {
            part.untyped_storage().data_ptr() for part in _tensors((args, kwargs or {}))
        }  # what an operation gives back in one of these is a view
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.count[name] += 1
        for part in _tensors(out):
            if part.untyped_storage().data_ptr() not in given and part.numel():
                self.made.append((name, tuple(part.shape)))
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def watch(module: WindowAttention, x: Tensor) -> Ops:
    ops = Ops()
    with torch.no_grad(), ops:
        module.attend(x)
    return ops


GATHERING = ("cat", "constant_pad_nd", "pad")


@pytest.mark.usefixtures("small_groups")
def test_a_frame_copies_its_content_and_nothing_else(module: WindowAttention) -> None:
    """Two groups or more: three copies in and one out for each, and no cat, pad or zeros."""
    folded, side = folded_copy(module), module.window
    x = picture(module, 2 * side, 2 * side)
    first, frame = watch(folded, x), watch(folded, x)
    capacity = 3 * 64 // side**2
    groups = len(list(attention._groups(2, 2, capacity)))
    assert groups == (1 if capacity >= 4 else 2)
    assert frame.count["copy_"] == 4 * groups
    assert not any(frame.count[name] for name in GATHERING)
    # New memory: the projection, the map of results, and for each group what the kernel makes
    # (values, and the logarithms of its sums).
    names = [name for name, _ in frame.made]
    kernel = "_scaled_dot_product_flash_attention_for_cpu"
    projections = [name for name in names if name in ("mm", "addmm", "linear")]
    assert len(projections) == 1
    maps = [name for name in names if name in ("new_empty", "empty")]
    assert len(maps) == 1
    assert names.count(kernel) == 2 * groups
    assert len(names) == len(projections) + len(maps) + 2 * groups
    # The first frame alone makes the buffers: q, k, v.
    assert len(first.made) >= len(frame.made) + 3
    assert first.count["zeros"] == 3
    assert frame.count["zeros"] == frame.count["new_zeros"] == frame.count["zero_"] == 0


def test_the_published_form_gathers(module: WindowAttention) -> None:
    """So the test above can fail."""
    count = watch(module, picture(module, 16, 16)).count
    if module.rank:
        assert count["cat"] == 2
        assert count["constant_pad_nd"] == 1
    assert count["copy_"] + count["clone"] > 0


def test_buffers_stay_where_they_are(module: WindowAttention) -> None:
    folded = folded_copy(module)
    folded(picture(module, 17, 9))
    workspace = folded._workspace
    assert workspace is not None
    buffers = (workspace.q, workspace.k, workspace.v)
    places = [part.data_ptr() for part in buffers]
    fixed = [part[..., module.width :].clone() for part in buffers]
    content = workspace.q[..., : module.width].clone()
    for size in ((24, 40), (17, 9), (3, 30)):
        folded(picture(module, *size))
        assert folded._workspace is workspace
        assert [part.data_ptr() for part in (workspace.q, workspace.k, workspace.v)] == places
        for part, before in zip(buffers, fixed, strict=True):
            assert torch.equal(part[..., module.width :], before)
    assert not torch.equal(workspace.q[..., : module.width], content)  # while content changed
    for part, table in ((workspace.q, folded.q_table), (workspace.k, folded.k_table)):
        if table is not None:
            columns = slice(module.width, module.width + module.rank)
            assert torch.equal(part[..., columns], table.expand(len(part), -1, -1, -1))
            assert not part[..., columns.stop :].any()
    assert not workspace.v[..., module.width :].any()


def test_the_buffers_do_not_grow_with_the_picture() -> None:
    folded = folded_copy(implicit(8, 1, 8, 8))
    for size in (8, 200):
        folded(picture(folded, size, size))
        assert folded._workspace is not None
        assert folded._workspace.q.shape == (128, 64, 1, 16)


def test_position_tables_are_computed_once(
    module: WindowAttention, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    real = type(module).position_tables

    def counting(self: WindowAttention) -> Any:
        computed.append(self)
        return real(self)

    monkeypatch.setattr(type(module), "position_tables", counting)
    folded, x = folded_copy(module), picture(module, 9, 9)
    for _ in range(3):
        folded(x)
    assert len(computed) == 1
    for _ in range(3):
        module(x)
    assert len(computed) == 4  # the published form computes them for each frame


# Copies and casts.


def test_layers_alike_share_a_buffer_for_values_alone(module: WindowAttention) -> None:
    layers = nn.Sequential(module, copy.deepcopy(module)).eval()
    folded, x = copy.deepcopy(layers), picture(module, 17, 9)
    fold_attention(folded)
    torch.testing.assert_close(folded(x), layers(x), rtol=1e-5, atol=1e-5)
    one, other, *twins = places(folded) + places(copy.deepcopy(folded))
    assert one["v"] == other["v"]
    assert len({one["q"], one["k"], other["q"], other["k"]}) == 4
    assert twins[0]["v"] == twins[1]["v"] != one["v"]


def places(layers: nn.Sequential) -> list[dict[str, int]]:
    """Where the buffers of each layer lie."""
    workspaces = [getattr(layer, "_workspace") for layer in layers]  # noqa: B009 - any module
    return [{n: getattr(w, n).data_ptr() for n in "qkv"} for w in workspaces]


def test_a_copy_of_a_hot_module_has_buffers_of_its_own(module: WindowAttention) -> None:
    folded, x = folded_copy(module), picture(module, 17, 9)
    expected = folded(x)
    twin = copy.deepcopy(folded)
    assert torch.equal(twin(x), expected)
    assert folded._workspace is not None
    assert twin._workspace is not None
    assert twin._workspace.q.data_ptr() != folded._workspace.q.data_ptr()
    twin(picture(module, 17, 9))
    assert torch.equal(folded(x), expected)


def test_inference_mode_leaves_a_hot_module_usable(module: WindowAttention) -> None:
    folded, x = folded_copy(module), picture(module, 9, 9)
    with torch.inference_mode():
        expected = folded(x).clone()
    with torch.no_grad():
        assert torch.equal(folded(x), expected)
        assert torch.equal(copy.deepcopy(folded)(x), expected)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("ran", [False, True])
def test_a_hot_module_can_be_cast(module: WindowAttention, dtype: torch.dtype, ran: bool) -> None:
    x = picture(module, 17, 9)
    expected, folded = module(x), folded_copy(module)
    if ran:
        folded(x)  # buffers are in float32 by now
    found = folded.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    assert folded._workspace is not None
    assert folded._workspace.q.dtype == dtype
    error = (found.float() - expected).square().mean().sqrt() / expected.std()
    assert 1e-5 < error < (0.05 if dtype == torch.bfloat16 else 0.006)
    back = folded.to(torch.float32)(x)  # and once more; what rounding took does not come back
    assert back.dtype == torch.float32


def test_queries_may_have_a_dtype_of_their_own(module: WindowAttention, calls: Calls) -> None:
    """Layers in float32, attention in bfloat16, as the published models have it."""
    x = picture(module, 17, 9)
    expected = module(x)
    calls.seen.clear()
    folded = folded_copy(module, torch.bfloat16)
    found = folded(x)
    assert found.dtype == torch.float32
    assert all(part.dtype == torch.bfloat16 for seen in calls.seen for part in seen[:3])
    assert all(mask is None or mask.dtype == torch.bfloat16 for *_, mask in calls.seen)
    assert 1e-5 < (found - expected).square().mean().sqrt() / expected.std() < 0.05
    assert folded.to_qkv.weight.dtype == torch.float32


def test_heating_twice_is_harmless(module: WindowAttention) -> None:
    body, x = nn.Sequential(copy.deepcopy(module)), picture(module, 9, 17)
    fold_attention(body)
    expected = body(x)
    state = {name: value.clone() for name, value in body.state_dict().items()}
    fold_attention(body)
    assert torch.equal(body(x), expected)
    assert all(torch.equal(value, state[name]) for name, value in body.state_dict().items())


def test_heat_adds_nothing_to_the_state(module: WindowAttention) -> None:
    assert folded_copy(module).state_dict().keys() == module.state_dict().keys()


def test_values_are_widened_in_the_weights() -> None:
    published = implicit(60, 2, 8, 18)  # 30 columns a head
    folded = folded_copy(published)
    assert folded.to_qkv.weight.shape[0] == 60 + 60 + 64
    values = folded.to_qkv.weight[120:].reshape(2, 32, 60)
    assert values[:, 30:].count_nonzero() == 0
    assert published.to_qkv.weight.shape[0] == 180
    x = picture(published, 19, 33)
    with torch.no_grad():
        assert (folded(x) - published(x)).abs().max() < 1e-4 * published(x).std()
