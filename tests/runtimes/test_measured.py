"""On a processor with AMX, float32 or bf16: what was measured decides, and it is measured once."""

import json
import shutil

import pytest
import torch

import vsr
from vsr.runtimes import make_runtime, measured
from vsr.runtimes.winograd import WinogradRuntime
from vsr.weights import load_network
from vsr.winograd import load

if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
    pytest.skip("there is no C compiler", allow_module_level=True)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(measured, "_chosen", {})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    load()  # compiled into the cache that stays
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    return tmp_path / "vsr" / "timings"


def is_exact(dtype: torch.dtype = torch.bfloat16) -> bool:
    return isinstance(make_runtime(load_network("span", scale=2), CPU, dtype), WinogradRuntime)


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """The file of a cache after a first run, and what that chose."""
    load()
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSR_CACHE", str(folder))
        patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
        patch.setattr(measured, "_chosen", {})
        exact = is_exact()
    (path,) = (folder / "vsr" / "timings").iterdir()
    return path, exact


def test_both_are_timed_and_the_times_are_kept(timed) -> None:
    path, exact = timed
    ((key, times),) = json.loads(path.read_text()).items()
    assert key.startswith("span x2 of ")
    assert path.stem.endswith(f"-vsr-{vsr.__version__}")  # by other kernels it is measured anew
    assert all(0.1 < times[name] < 60_000 for name in ("float32", "bfloat16"))
    assert exact == (times["bfloat16"] >= 0.9 * times["float32"])


@pytest.mark.parametrize(("rounded", "exact"), [(50.0, False), (95.0, True), (None, True)])
def test_what_is_remembered_decides_and_stands_within_a_process(
    cache, timed, rounded, exact
) -> None:
    ((key, _),) = json.loads(timed[0].read_text()).items()
    cache.mkdir(parents=True)
    path = cache / timed[0].name
    path.write_text(json.dumps({key: {"float32": 100.0, "bfloat16": rounded}}))
    assert is_exact() == exact
    path.write_text(json.dumps({key: {"float32": 100.0, "bfloat16": 50.0 if exact else 200.0}}))
    assert is_exact() == exact


def test_float32_is_never_rounded(cache) -> None:
    assert is_exact(torch.float32)
    assert not cache.exists()


def test_without_a_cache_it_is_measured_all_the_same(tmp_path, cache, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "file"))
    is_exact()
    assert len(measured._chosen) == 1
