"""The CPU kernels against PyTorch in float64: every kind of step, every network that they know."""

import ctypes
import errno
import os
import platform
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr import runtimes, winograd
from vsr.errors import ConfigError
from vsr.networks import Network, classical
from vsr.networks.span import Span, SpanConfig
from vsr.networks.spanf import SpanF, SpanFConfig
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.runtimes.winograd import WinogradRuntime
from vsr.weights import load_network
from vsr.winograd import PICTURE, Epilogue, Layers, Program, library

if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
    pytest.skip("there is no C compiler", allow_module_level=True)

CPU = torch.device("cpu")
LUMA = SpanConfig(channels=4, fused_channels=4, in_channels=1, out_channels=1, norm=False)


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def flags(*machine: str) -> list[str]:
    return [*library.find_compiler(), *library._FLAGS, *machine]


@pytest.fixture(scope="module", params=["native", "x86-64-v3", "x86-64"])
def kernels(request, tmp_path_factory):
    """Compiled for this processor, and for older ones of its kind."""
    if request.param == "native":
        return winograd.load()
    if platform.machine() != "x86_64" or "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("not a processor of that kind")
    made = tmp_path_factory.mktemp("kernels") / f"{request.param}.so"
    library.compile_to(made, flags(f"-march={request.param}"))
    return ctypes.CDLL(str(made))


def weights(outputs: int, inputs: int, side: int = 3) -> tuple[Tensor, Tensor]:
    scale = (inputs * side * side) ** -0.5
    weight = scale * torch.randn(outputs, inputs, side, side, dtype=torch.float64)
    return weight, torch.randn(outputs, dtype=torch.float64)


def run(kernels, steps, picture, threads=2):
    layers = Layers(steps, kernels, threads)
    program = Program(layers, *picture.shape)
    program(torch.rand_like(picture))  # what an earlier picture leaves behind must not matter
    return program(picture)


def picture_conv(pair, target, epilogue):
    weight, bias = pair
    return winograd.mix([(PICTURE, weight)], bias, target, epilogue)


def conv(x, pair):
    weight, bias = pair
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


@pytest.mark.parametrize("size", [(1, 1), (5, 6), (7, 40), (12, 13), (31, 18)])
@pytest.mark.parametrize(("channels", "scale"), [(28, 3), (32, 2), (48, 2), (52, 4), (64, 1)])
def test_every_step(kernels, channels, scale, size):
    torch.manual_seed(sum(size))
    first, second, third = weights(channels, 3), weights(channels, channels), weights(channels, 48)
    wide, mixed = weights(48, channels), weights(channels, channels, 1)
    narrow = (weights(channels, 48, 1)[0], torch.zeros(channels, dtype=torch.float64))
    last = weights(3 * scale**2, channels)
    steps = [
        picture_conv(first, "a", Epilogue.SILU),
        winograd.convolution(*second, "a", "c"),
        winograd.convolution(*wide, "c", "b", Epilogue.SILU),
        winograd.convolution(*third, "b", "c", Epilogue.ATTENTION, skip="c"),
        winograd.mix(
            [(PICTURE, first[0]), ("c", mixed[0][:, :, 0, 0]), ("b", narrow[0][:, :, 0, 0])],
            mixed[1],
            "d",
        ),
        winograd.convolution(*second, "a", "d", Epilogue.ADD, skip="d"),
        winograd.upsampling(*last, "d", scale),
    ]
    picture = torch.rand(3, *size)
    a = F.silu(conv(picture[None].double(), first))
    c = conv(a, second)
    b = F.silu(conv(c, wide))
    features = conv(b, third)
    c = (features + c) * (features.sigmoid() - 0.5)
    of_first = conv(picture[None].double(), (first[0], None))
    d = of_first + conv(c, mixed) + conv(b, narrow) + conv(a, second)
    expected = F.pixel_shuffle(conv(d, last), scale)[0]
    assert_close(run(kernels, steps, picture).double(), expected)


def test_sigmoid_at_its_ends(kernels):
    """Where exp overflows or vanishes, and where it is exact."""
    values = torch.tensor([-1e4, -200.0, -88.0, -30.0, -1e-6, 0.0, 1e-6, 30.0, 88.0, 200.0, 1e4])
    identity = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    identity[0, 0, 1, 1] = 1
    none = torch.zeros(1, dtype=torch.float64)
    steps = [
        picture_conv((identity, none), "a", Epilogue.SILU),
        winograd.upsampling(identity, none, "a", 1),
    ]
    picture = torch.zeros(1, 1, 6 * len(values))
    picture[0, 0, ::6] = values  # one a tile: the transform of a large one rounds its neighbours
    found = run(kernels, steps, picture)[0, 0, ::6]
    torch.testing.assert_close(found, F.silu(values), atol=1e-6, rtol=1e-5)


def test_threads_change_nothing(kernels):
    steps = [
        picture_conv(weights(48, 3), "a", Epilogue.SILU),
        winograd.upsampling(*weights(12, 48), "a", 2),
    ]
    picture = torch.rand(3, 150, 200)
    results = [run(kernels, steps, picture, threads) for threads in (1, 2, 7)]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def network(module: nn.Module, config) -> Network:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    channels = {"in_channels": config.in_channels, "out_channels": config.in_channels}
    return Network(
        module=module.eval(), name="x", scale=config.scale, halo=config.halo, body=config.body,
        multiple=getattr(config, "multiple", 1), **channels,
    )  # fmt: skip


@pytest.mark.parametrize("build", [
    lambda: (Span, SpanConfig(channels=48)),
    lambda: (Span, SpanConfig(channels=28, fused_channels=28, scale=4)),
    lambda: (Span, SpanConfig(channels=52, fused_channels=32, scale=3, norm=False)),
    lambda: (Span, SpanConfig(channels=16, fused_channels=16, blocks=1)),
    lambda: (Span, LUMA),
    lambda: (SpanF, SpanFConfig()),
    lambda: (SpanF, SpanFConfig(channels=28, scale=2, blocks=2)),
    lambda: (SpanF, SpanFConfig(channels=32, scale=2, unshuffle=2)),
])  # fmt: skip
def test_networks(build):
    torch.manual_seed(0)
    kind, config = build()
    made = network(kind(config), config)
    picture = torch.rand(2, 3, 23, 38)
    found = make_runtime(made, CPU, torch.float32, "winograd")(picture)
    expected = EagerRuntime(made, CPU, torch.float32)(picture)
    spread = float(expected.std())
    torch.testing.assert_close(found, expected, atol=1e-4 * spread, rtol=1e-4)


def test_what_ships_is_as_good_as_in_float64() -> None:
    made = load_network("span", scale=2)
    picture = torch.rand(1, 3, 60, 91)
    exact = made.module.double()(picture.double())
    error = WinogradRuntime(load_network("span", scale=2), 2)(picture) - exact
    assert 10 * error.square().mean().log10() < -110


def test_sizes_in_turn_and_results_of_their_own() -> None:
    made = load_network("span", scale=2)
    runtime, eager = WinogradRuntime(made, 2), EagerRuntime(made, CPU, torch.float32)
    pictures = [torch.rand(1, 3, *size) for size in ((9, 9), (20, 7), (9, 9), (6, 12))]
    results = [runtime(picture) for picture in pictures]
    for picture, result in zip(pictures, results, strict=True):
        assert_close(result, eager(picture))


def test_auto_takes_the_kernels_where_it_can(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    runtime = make_runtime(load_network("span", scale=2), CPU, torch.bfloat16)
    assert isinstance(runtime, WinogradRuntime)
    assert runtime.dtype == torch.float32


def test_what_they_cannot_is_said(monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"^runtime winograd: .* only SPAN and SPAN-F"):
        make_runtime(classical("lanczos", 2), CPU, torch.float32, "winograd")
    span = load_network("span", scale=2)
    with pytest.raises(ConfigError, match="fp32 alone"):
        make_runtime(span, CPU, torch.float16, "winograd")
    with pytest.raises(ConfigError, match="fp32 alone"):
        make_runtime(span, CPU, torch.bfloat16, "winograd", stated=True)
    assert make_runtime(span, CPU, torch.bfloat16, stated=True).dtype == torch.bfloat16
    monkeypatch.setenv("CC", "no-such-compiler")
    library.load_or_reason.cache_clear()
    with pytest.raises(ConfigError, match=r"no C compiler is found \(no-such-compiler\)"):
        make_runtime(load_network("span", scale=2), CPU, torch.float32, "winograd")


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'cc: error: out of cheese' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    library.load_or_reason.cache_clear()
    with pytest.raises(ConfigError, match=r"cannot compile the CPU kernels: cc: error: out of"):
        make_runtime(load_network("span", scale=2), CPU, torch.float32, "winograd")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("quickly")
def test_a_compiler_of_several_words(monkeypatch, tmp_path) -> None:
    """As build systems have it: options, a program ahead of it, or a path with blanks."""
    folder = tmp_path / "two words"
    folder.mkdir()
    real = library.find_compiler()[0]
    for name in ("cc", "ahead"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "$@" >> "$0.log"\nexec {real} "$@"\n')
        program.chmod(0o755)
    (folder / "ahead").write_text('#!/bin/sh\necho "$@" >> "$0.log"\nexec "$@"\n')
    made = set()
    for number, named in enumerate(
        [f"{folder}/cc", f"'{folder}/cc' -DONE", f"'{folder}/cc' -DTWO",
         f"'{folder}/ahead' '{folder}/cc'"]
    ):  # fmt: skip
        monkeypatch.setenv("CC", named)
        made.add(compiled_in(tmp_path / str(number), monkeypatch).name)
    assert len(made) == 4
    logged = (folder / "cc.log").read_text().splitlines()
    assert [("-DONE" in line, "-DTWO" in line) for line in logged] == [
        (False, False), (True, False), (False, True), (False, False)
    ]  # fmt: skip
    assert (folder / "ahead.log").read_text().startswith(f"{folder}/cc ")
    os.utime(folder / "cc", (1, 1))  # another compiler, behind the same program
    assert compiled_in(tmp_path / "later", monkeypatch).name not in made
    for unknown in ('gcc "', " ", "''", "no-such-compiler -m64"):
        monkeypatch.setenv("CC", unknown)
        library.load_or_reason.cache_clear()
        if unknown.strip():
            with pytest.raises(library.CompilerError, match="no C compiler is found"):
                library.load()
        else:
            assert library.find_compiler()[0] == real


@pytest.mark.usefixtures("quickly")
def test_a_compiler_where_no_path_is_set(monkeypatch, tmp_path) -> None:
    """It is found in the usual folders, and so is its linker."""
    monkeypatch.delenv("PATH")
    assert compiled_in(tmp_path, monkeypatch).read_bytes()[:4] == b"\x7fELF"


def compiled_in(cache: Path, monkeypatch) -> Path:
    monkeypatch.setenv("VSR_CACHE", str(cache))
    library.load_or_reason.cache_clear()
    library.load()
    (path,) = cache.rglob("*.so")
    return path


def test_what_lies_damaged_in_the_cache_is_compiled_again(monkeypatch, tmp_path) -> None:
    """In another folder than where it was loaded from: the loader knows that file by its path."""
    whole = compiled_in(tmp_path / "one", monkeypatch)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    damaged = tmp_path / "other" / whole.relative_to(tmp_path / "one")
    damaged.write_bytes(whole.read_bytes()[:1000])
    assert compiled_in(tmp_path / "other", monkeypatch) == damaged
    assert damaged.read_bytes()[:4] == b"\x7fELF"
    assert damaged.stat().st_size > 1000


def test_what_was_compiled_is_used_again(monkeypatch, tmp_path) -> None:
    made = compiled_in(tmp_path, monkeypatch).stat()
    assert compiled_in(tmp_path, monkeypatch).stat().st_mtime_ns == made.st_mtime_ns


@pytest.fixture
def quickly(monkeypatch) -> None:
    """Kernels that nobody runs may be slow."""
    monkeypatch.setattr(library, "_FLAGS", ("-O0", *library._FLAGS[1:]))


def loaded_from(cache: Path, monkeypatch) -> Path:
    """Where the kernels were loaded from, with ``cache`` as the folder of caches."""
    monkeypatch.setenv("VSR_CACHE", str(cache))
    library.load_or_reason.cache_clear()
    return Path(library.load()._name)


ALONE = "the CPU kernels are compiled for this run alone: "


@pytest.mark.usefixtures("quickly")
def test_without_a_cache_they_are_compiled_for_one_process(monkeypatch, tmp_path, caplog) -> None:
    """A container, or a service without a home, computes what every other run computes."""
    caplog.set_level("INFO")
    cache, temporary = tmp_path / "cache", tmp_path / "temporary"
    cache.write_text("")  # a file, below which there can be no folder
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    runtime = make_runtime(load_network("span", scale=2), CPU, torch.float32)
    assert isinstance(runtime, WinogradRuntime)
    caplog.clear()
    assert loaded_from(cache, monkeypatch).is_relative_to(temporary)
    assert [*temporary.iterdir()] == []
    library.load()
    assert caplog.messages == [f"{ALONE}{cache}/vsr/kernels: Not a directory"]


@pytest.mark.usefixtures("quickly")
def test_without_a_home_too(monkeypatch, caplog) -> None:
    caplog.set_level("INFO")
    loaded_from(Path("~nobody-of-this-name/x"), monkeypatch)
    assert caplog.messages == [f"{ALONE}there is no home folder; let VSR_CACHE name one for caches"]


@pytest.mark.usefixtures("quickly")
def test_a_full_cache_keeps_nothing(monkeypatch, tmp_path, caplog) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:1000])
        # as shutil has it, which names both
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    caplog.set_level("INFO")
    assert not loaded_from(tmp_path, monkeypatch).is_relative_to(tmp_path / "vsr")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert caplog.messages[1:] == [f"{ALONE}{tmp_path}/vsr/kernels: No space left on device"]


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("place", ["vsr", "vsr/kernels"])
def test_nothing_is_loaded_from_where_others_write(monkeypatch, tmp_path, place, caplog) -> None:
    caplog.set_level("INFO")
    planted = compiled_in(tmp_path, monkeypatch)
    assert loaded_from(tmp_path, monkeypatch) == planted
    (tmp_path / place).chmod(0o777)
    assert loaded_from(tmp_path, monkeypatch) != planted
    assert caplog.messages[-1] == f"{ALONE}{tmp_path / place}: another user can write there"


@pytest.mark.usefixtures("quickly")
def test_nothing_is_loaded_from_where_a_group_writes(monkeypatch, tmp_path) -> None:
    """But for the user's own, which on many systems is theirs alone."""
    planted = compiled_in(tmp_path, monkeypatch)
    group = planted.parent.stat().st_gid
    planted.parent.chmod(0o775)
    monkeypatch.setattr(library, "_ROOT", -1)  # the tests may run as root, whom everybody trusts
    monkeypatch.setattr(os, "getegid", lambda: group)
    assert loaded_from(tmp_path, monkeypatch) == planted
    monkeypatch.setattr(os, "getegid", lambda: group + 1)
    assert loaded_from(tmp_path, monkeypatch) != planted
    planted.parent.chmod(0o755)
    assert loaded_from(tmp_path, monkeypatch) == planted


@pytest.mark.usefixtures("quickly")
def test_nothing_is_loaded_from_another_user(monkeypatch, tmp_path) -> None:
    planted = compiled_in(tmp_path, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: planted.stat().st_uid + 1)
    monkeypatch.setattr(library, "_ROOT", -1)  # the tests may run as root, whom everybody trusts
    assert loaded_from(tmp_path, monkeypatch) != planted


def test_why_it_goes_without_them_is_said_once(monkeypatch, caplog) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    library.load_or_reason.cache_clear()
    runtimes._tell_what_is_missed.cache_clear()
    caplog.set_level("INFO")
    for _ in range(2):
        made = make_runtime(load_network("span", scale=2), CPU, torch.float32)
        assert not isinstance(made, WinogradRuntime)
    told = [message for message in caplog.messages if "kernels" in message]
    reason = "no C compiler is found (no-such-compiler)"
    assert told == [f"without the CPU kernels, which are faster: {reason}"]


@pytest.fixture(autouse=True)
def kernels_of_the_next_test():
    """Tests that change the compiler leave no trace."""
    yield
    library.load_or_reason.cache_clear()
