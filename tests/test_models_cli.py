"""vsr-models as its users type it."""

import functools
import hashlib
import http.server
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

import vsr.index as index_module
from vsr.cache import cache_folder, cache_path
from vsr.cli.models import main
from vsr.index import list_models, models_folder

WEIGHTS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + bytes(range(256)) * 64
OTHER = WEIGHTS[:15] + WEIGHTS[:14:-1]
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
COMMAND = [sys.executable, "-m", "vsr.cli.models"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path):
    """Address of a folder with ``good.pth`` in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "good.pth").write_bytes(WEIGHTS)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def shelf(tmp_path, monkeypatch, url):
    """An index with one model that ships and one that is fetched from ``url``."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "toy.safetensors").write_bytes(b"toy")
    (folder / "index.toml").write_text(
        '[[model]]\nname = "toy-x2"\nfamily = "toy"\nscale = 2\nsummary = "s"\n'
        f'file = "toy.safetensors"\nsha256 = "{hashlib.sha256(b"toy").hexdigest()}"\n'
        '[[download]]\nname = "far-x4"\nfamily = "far"\nscale = 4\nsummary = "far away"\n'
        f'source = "{url}/good.pth"\nsha256 = "{DIGEST}"\npaper = "Set5 x4: 99 dB"\n'
    )
    monkeypatch.setattr(index_module, "models_folder", lambda: folder)
    list_models.cache_clear()
    yield folder
    list_models.cache_clear()


def run(capsys, *arguments):
    try:
        code: object = main(arguments)
    except SystemExit as stop:  # argparse leaves by itself
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def test_help_imports_no_torch_and_no_network():
    code = (
        "import sys; from vsr.cli.models import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'urllib.request', 'tqdm', 'ssl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["dance"], "invalid choice"),
        (["pull"], "NAME|REF"),
        (["pull", "nothing"], "no model is called 'nothing'"),
        (["pull", "/tmp/x.pth"], "'/tmp/x.pth'; a file that is here is for vsr-upscale --weights"),
        (["pull", "file:/tmp/x"], "'file:/tmp/x'; a file that is here is for vsr-upscale"),
        (["pull", "file:///tmp/x"], "'file:///tmp/x'; a file that is here is for vsr-upscale"),
        (["path", "x.safetensors"], "'x.safetensors'; a file that is here is for vsr-upscale"),
        (["pull", "lanczos"], "is a filter and has no weights"),
        (["pull", "hf:owner"], "is no reference"),
        (["pull", "ftp://example.org/x"], "is no reference"),
        (["pull", "http://example.invalid/x"], "only https"),
        (["pull", "https://example.invalid/x", "--sha256", "12"], "64 hexadecimal digits"),
        (["pull", "span", "--sha256", DIGEST], "goes with one reference"),
        (["verify", "nothing"], "no model is called"),
        (["path", "identity"], "is a filter and has no weights"),
        (["export", "lanczos", "--format", "torchscript"], "'lanczos' is a filter and has no"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(arguments, words, capsys):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("shelf")
def test_list_says_where_models_are(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert re.search(r"^toy-x2 +toy +2 +shipped ", out, re.M)
    assert re.search(r"^far-x4 +far +4 +to pull .*far away \(Set5 x4: 99 dB\)$", out, re.M)
    assert re.search(r"^identity .* built in ", out, re.M)
    assert run(capsys, "pull", "far")[0] == 0
    assert re.search(r"^far-x4 +far +4 +cached ", run(capsys, "list")[1], re.M)


@pytest.mark.usefixtures("shelf")
def test_list_as_json(capsys):
    listed = {entry["name"]: entry for entry in json.loads(run(capsys, "list", "--json")[1])}
    assert listed["far-x4"]["sha256"] == DIGEST
    assert listed["far-x4"]["where"] == "to pull"
    assert listed["toy-x2"]["scale"] == 2


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("name", ["far", "far-x4"])
def test_pull_a_model(capsys, url, name):
    path = cache_path(f"{url}/good.pth")
    assert run(capsys, "pull", name) == (0, f"{path}\n", "")
    assert path.read_bytes() == WEIGHTS
    assert run(capsys, "path", name) == (0, f"{path}\n", "")


def test_pull_what_ships_needs_nothing(capsys, shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").write_bytes(b"a file that happens to be called like it")
    assert run(capsys, "pull", "toy") == (0, f"{shelf / 'toy.safetensors'}\n", "")


def test_path_of_a_family_is_all_that_are_here(capsys, shelf, url):
    index = shelf / "index.toml"
    index.write_text(
        index.read_text()
        + '[[download]]\nname = "toy-x4"\nfamily = "toy"\nscale = 4\nsummary = "s"\n'
        f'source = "{url}/good.pth"\nsha256 = "{DIGEST}"\n'
    )
    list_models.cache_clear()
    first, second = f"{shelf / 'toy.safetensors'}\n", f"{cache_path(f'{url}/good.pth')}\n"
    assert run(capsys, "path", "toy") == (0, first, "")
    assert run(capsys, "pull", "toy") == (0, first + second, "")
    assert run(capsys, "path", "toy") == (0, first + second, "")
    assert run(capsys, "path", "toy-x4") == (0, second, "")


def test_pull_a_reference(capsys, url):
    reference = f"{url}/good.pth"
    code, out, err = run(capsys, "path", reference)
    assert (code, out) == (1, "")
    assert f"run 'vsr-models pull {reference}'" in err
    expected = (0, f"{cache_path(reference)}\n", "")
    assert run(capsys, "pull", reference, "--sha256", DIGEST) == expected
    assert run(capsys, "path", reference) == expected


def test_a_failed_pull_is_one_line_and_exit_1(capsys, url):
    for wanted, words in (
        ([f"{url}/none.pth"], "404"),
        ([f"{url}/good.pth", "--sha256", "0" * 64], f"its sha256 is {DIGEST}"),
        (["https://vsr.invalid/x.pth"], "cannot reach vsr.invalid"),
    ):
        code, out, err = run(capsys, "pull", *wanted)
        assert (code, out) == (1, "")
        assert err.startswith("vsr-models: error: ")
        assert words in err
        assert err.count("\n") == 1


def test_force_fetches_what_changed(capsys, url, tmp_path):
    reference = f"{url}/good.pth"
    run(capsys, "pull", reference)
    (tmp_path / "served" / "good.pth").write_bytes(OTHER)
    run(capsys, "pull", reference)
    assert cache_path(reference).read_bytes() == WEIGHTS
    assert run(capsys, "pull", reference, "--force")[0] == 0
    assert cache_path(reference).read_bytes() == OTHER
    assert run(capsys, "verify")[0] == 0


def test_verify_looks_at_all_that_is_here(capsys, shelf, url):
    (shelf.parent / "served" / "other.pth").write_bytes(OTHER)
    run(capsys, "pull", "far", f"{url}/other.pth")
    code, out, err = run(capsys, "verify")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["ok", "toy-x2"], ["ok", "far-x4"], ["ok", "-"],
    ]  # fmt: skip
    damaged = cache_path(f"{url}/other.pth")
    damaged.write_bytes(WEIGHTS)
    code, out, err = run(capsys, "verify")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "ok", "bad"]
    assert f"{damaged}: damaged" in err


@pytest.mark.usefixtures("shelf")
def test_verify_by_name(capsys, url):
    code, out, err = run(capsys, "verify", "far")
    assert (code, out) == (1, "")
    assert "run 'vsr-models pull far-x4'" in err
    run(capsys, "pull", "far")
    assert run(capsys, "verify", "far")[0] == 0
    cache_path(f"{url}/good.pth").write_bytes(b"x")
    code, _, err = run(capsys, "verify", "far-x4")
    assert code == 1
    assert "damaged, its sha256 is not the known one" in err
    assert run(capsys, "verify", "toy")[0] == 0


def test_a_shipped_file_that_is_gone(capsys, shelf):
    (shelf / "toy.safetensors").unlink()
    code, out, err = run(capsys, "verify")
    assert code == 1
    assert out.startswith("bad  toy-x2")
    assert "No such file" in err


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json"), ("verify",)])
def test_without_a_home_nothing_is_cached(capsys, monkeypatch, shelf, arguments):
    expected = run(capsys, *arguments)
    assert expected[0] == 0
    monkeypatch.setenv("VSR_CACHE", "~nobody-of-this-name/x")
    assert run(capsys, *arguments) == expected


def test_the_cache_folder(capsys):
    assert run(capsys, "path") == (0, f"{cache_folder()}\n", "")


def test_nothing_is_written_beside_the_package(capsys, url):
    package = Path(index_module.__file__).parent
    before = {*package.iterdir(), *models_folder().iterdir()}
    run(capsys, "pull", f"{url}/good.pth")
    assert {*package.iterdir(), *models_folder().iterdir()} == before


def test_a_bar_on_a_terminal(url):
    main_end, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 100))
    done = subprocess.run(
        [*COMMAND, "pull", f"{url}/good.pth"],
        stdout=subprocess.PIPE, stderr=other_end, check=True, env=dict(os.environ),
    )  # fmt: skip
    os.close(other_end)
    shown = os.read(main_end, 1 << 16).decode()
    os.close(main_end)
    assert "good.pth: 100%" in shown
    assert done.stdout.decode() == f"{cache_path(f'{url}/good.pth')}\n"


def test_a_reader_that_leaves_early():
    line = f"{sys.executable} -m vsr.cli.models list --json | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[\n", "")
