"""OpenVINO against PyTorch: the same network, the same picture."""

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.warm import PYTHON
from vsr.errors import ConfigError
from vsr.networks import Network, classical
from vsr.networks.span import Span, SpanConfig
from vsr.runtimes import EagerRuntime, make_runtime
from vsr.runtimes.openvino import OpenVinoRuntime
from vsr.weights import load_network
from vsr.winograd import library

# Not importorskip: importing it here would send OpenVINO's report of use.
if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO (extra cpu) is not installed", allow_module_level=True)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network("span", scale=2)


def run(network, dtype, wanted, picture):
    runtime = make_runtime(network, CPU, dtype, wanted)
    return runtime.name, runtime(picture).float()


def test_float32_is_the_same(network) -> None:
    picture = torch.rand(1, 3, 37, 50)
    (name, found), (_, expected) = (
        run(network, torch.float32, wanted, picture) for wanted in ("openvino", "torch")
    )
    assert name == "OpenVINO"
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_bfloat16_is_as_close_as_pytorchs(network) -> None:
    """The ends are in float32 in both: nothing is rounded to the eight bits of bf16 there."""
    picture = torch.rand(1, 3, 64, 48)
    _, exact = run(network, torch.float32, "torch", picture)
    errors = [
        (run(network, torch.bfloat16, wanted, picture)[1] - exact).std()
        for wanted in ("openvino", "torch")
    ]
    assert 0 < errors[0] < 1.5 * errors[1]


def test_any_geometry_and_batches(network) -> None:
    runtime = make_runtime(network, CPU, torch.float32, "openvino")
    eager = EagerRuntime(network, CPU, torch.float32)
    for shape in ((1, 3, 8, 9), (3, 3, 20, 16), (1, 3, 8, 9)):
        picture = torch.rand(shape)
        torch.testing.assert_close(runtime(picture), eager(picture), atol=2e-5, rtol=0)


def test_results_do_not_share_memory(network) -> None:
    runtime = make_runtime(network, CPU, torch.float32, "openvino")
    first = runtime(torch.rand(1, 3, 16, 16))
    kept = first.clone()
    runtime(torch.rand(1, 3, 16, 16))
    assert torch.equal(first, kept)


def test_a_network_without_a_trunk_is_converted_whole(shared) -> None:
    path = shared / "weights" / "spanv2_ntire26_x4_ch32.safetensors"
    network = load_network(path)
    picture = torch.rand(1, 3, 24, 31)
    name, found = run(network, torch.float32, "openvino", picture)
    assert name == "OpenVINO"
    _, expected = run(network, torch.float32, "torch", picture)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.fixture
def no_compiler(monkeypatch) -> Iterator[None]:
    """None that would make faster kernels."""
    monkeypatch.setenv("CC", "no-such-compiler")
    library.load_or_reason.cache_clear()
    yield
    library.load_or_reason.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_auto_takes_what_it_can(network) -> None:
    assert make_runtime(network, CPU, torch.float32).name == "OpenVINO"
    assert make_runtime(classical("lanczos", 2), CPU, torch.float32).name == "PyTorch"
    assert make_runtime(network, CPU, torch.float16).name == "PyTorch"


def test_what_it_cannot_is_said(network) -> None:
    with pytest.raises(ConfigError, match="only networks of plain convolutions"):
        make_runtime(classical("identity", 1), CPU, torch.float32, "openvino")
    with pytest.raises(ConfigError, match="not in fp16"):
        make_runtime(network, CPU, torch.float16, "openvino")


def test_one_channel_is_run_for_each_colour() -> None:
    config = SpanConfig(channels=4, fused_channels=4, in_channels=1, out_channels=1, norm=False)
    luma = Network(
        module=Span(config).eval(), name="span", scale=2, halo=21, in_channels=1, out_channels=1
    )
    picture = torch.rand(2, 3, 9, 7)
    _, found = run(luma, torch.float32, "openvino", picture)
    _, expected = run(luma, torch.float32, "torch", picture)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_nothing_is_reported_to_anybody() -> None:
    code = (
        "import sys, torch\n"
        "from vsr.runtimes import make_runtime\n"
        "from vsr.weights import load_network\n"
        "network = load_network('span', scale=2)\n"
        "runtime = make_runtime(network, torch.device('cpu'), torch.float32, 'openvino')\n"
        "runtime(torch.rand(1, 3, 8, 8))\n"
        "assert 'openvino' in sys.modules\n"
        "print(*[name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_signals_find_their_stack_after_a_runtime_has_gone() -> None:
    """Made on the main thread, freed on another; Python is not to be ended by Ctrl-C for it."""
    code = (
        "import gc, signal, threading, torch\n"
        "from vsr.runtimes import make_runtime\n"
        "from vsr.weights import load_network\n"
        "network = load_network('span', scale=2)\n"
        "made = [make_runtime(network, torch.device('cpu'), torch.float32, 'openvino')]\n"
        "made[0](torch.rand(1, 3, 8, 8))\n"
        "threads = [threading.Thread(target=work) for work in (made.clear, gc.collect)]\n"
        "[(thread.start(), thread.join()) for thread in threads]\n"
        "signal.signal(signal.SIGINT, lambda *_: print('heard'))\n"
        "signal.raise_signal(signal.SIGINT)"
    )
    done = subprocess.run([*PYTHON, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_no_thread_is_bound_to_a_core(network) -> None:
    """Two runtimes would be bound to the same one, and take twice the time."""
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("there is one core")
    runtime = make_runtime(network, CPU, torch.float32, "openvino")
    runtime(picture := torch.rand(1, 3, 96, 96))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: [runtime(picture) for _ in range(4)])
        seen = set()
        while not running.done():
            seen |= {cores_of(int(task)) for task in os.listdir("/proc/self/task")}
    assert seen == {frozenset(os.sched_getaffinity(0))}


def cores_of(task: int) -> frozenset[int]:
    """Where a thread may run; anywhere, if it has just ended."""
    try:
        return frozenset(os.sched_getaffinity(task))
    except ProcessLookupError:
        return frozenset(os.sched_getaffinity(0))


def test_nothing_is_logged_where_everything_is_shown(network, caplog) -> None:
    """As under vspipe, whose handler takes all."""
    with caplog.at_level(logging.NOTSET):
        OpenVinoRuntime(network, torch.float32, 1)
    assert not [record for record in caplog.records if record.name.startswith("openvino")]
