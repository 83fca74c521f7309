"""The package as it reaches a user: sdist, wheel, an empty environment."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd, **environment):
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True,
        env={**os.environ, **environment},
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the sdist, built from the checkout."""
    folder = tmp_path_factory.mktemp("build")
    build = [sys.executable, "-m", "hatchling", "build"]
    run(*build, "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    run(*build, "-t", "wheel", "-d", folder, cwd=unpacked)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Python of an empty environment with the wheel in it, and nothing else.

    The dependencies (5 GB of torch) are seen through a path file that comes last, so that what the
    wheel itself brings is all that its site-packages holds.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    before = site_packages(folder)
    run(sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--offline", "--python", python,
        wheel, cwd=folder)  # fmt: skip
    gained = site_packages(folder) - before
    packages = {name for name in gained if not name.endswith(".dist-info")}
    assert packages == {"vsr"}
    assert len(gained) == 2
    installed = next(p for p in map(Path, sys.path) if (p / "torch").is_dir())
    (folder / "lib" / _version() / "site-packages" / "dependencies.pth").write_text(
        f"{installed}\n"
    )
    return python


def _version():
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def site_packages(folder):
    return {path.name for path in (folder / "lib" / _version() / "site-packages").iterdir()}


def test_models_list_from_another_directory(python):
    listed = run(python.parent / "vsr-upscale", "--list-models", cwd="/")
    assert "span-x2" in listed
    assert "span-x4" in listed


def test_the_other_command_is_there_too(python):
    verified = run(python.parent / "vsr-models", "verify", "span", cwd="/")
    assert verified.count(f"{python.parents[1]}/lib") == 2


def test_the_installed_copy_is_the_one_that_runs(python):
    code = "import vsr.weights as w; print(w.__file__); print(w.load_network('span').scale)"
    place, scale = run(python, "-I", "-c", code, cwd="/").splitlines()
    assert place.startswith(str(python.parents[1]))
    assert scale == "2"


@pytest.mark.parametrize("name", ["models", "plugins", "tests", "scripts"])
def test_data_folders_are_no_packages(python, name):
    code = f"import importlib.util as u; print(u.find_spec({name!r}))"
    assert run(python, "-I", "-c", code, cwd="/").strip() == "None"


def test_checkout_folders_are_no_packages():
    """An editable install must not make them importable either."""
    code = "import importlib.util as u; print([u.find_spec(n) for n in ('models', 'plugins')])"
    assert run(sys.executable, "-I", "-c", code, cwd="/").strip() == "[None, None]"


def test_wheel_holds_every_model_with_its_card(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    models = list((ROOT / "models").glob("*.safetensors"))
    assert len(models) > 5
    for model in models:
        assert f"vsr/models/{model.name}" in names
        assert f"vsr/models/{model.stem}.md" in names
    assert "vsr/models/index.toml" in names
    assert "vsr/py.typed" in names
    assert "vsr/record.schema.json" in names
