"""The index of models: what ships comes first, what is fetched says where from."""

import hashlib
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import vsr.index as index_module
from vsr.cache import beside, cache_path, parse
from vsr.errors import ConfigError, WeightsError
from vsr.index import expected_sha256, find_model, list_models, locate, models_folder
from vsr.networks import esc, sst

INDEX = """
[[model]]
name = "toy-x4"
family = "toy"
scale = 4
summary = "ships"
file = "toy-x4.safetensors"
sha256 = "{digest}"

[[download]]
name = "toy-x2"
family = "toy"
scale = 2
summary = "is fetched, and calls itself like what ships"
source = "https://example.org/toy-x2.pth"
sha256 = "{digest}"

[[download]]
name = "toy-fetched-x4"
family = "toy"
scale = 4
summary = "the same"
source = "https://example.org/toy-x4.pth"

[[download]]
name = "far-x3"
family = "far"
scale = 3
summary = "is fetched, of unknown sha256"
source = "hf:owner/far/x3.pth"

[[download]]
name = "lost-x2"
family = "lost"
scale = 2
summary = "is fetched, from a repository that is looked up"
source = "hf:owner/*/x2.pth"

[[download]]
name = "far-any"
family = "far"
scale = 0
summary = "any scale"
source = "hf:owner/far/any.pth"
"""
DIGEST = hashlib.sha256(b"toy").hexdigest()


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An index of its own, and a cache of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "index.toml").write_text(INDEX.format(digest=DIGEST))
    (folder / "toy-x4.safetensors").write_bytes(b"toy")
    monkeypatch.setattr(index_module, "models_folder", lambda: folder)
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    list_models.cache_clear()
    yield folder
    list_models.cache_clear()


def put(reference: str, content: bytes) -> Path:
    path = cache_path(reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("shelf")
def test_what_ships_is_found_first():
    assert find_model("toy", None).name == "toy-x4"
    assert find_model("toy", 4).name == "toy-x4"
    assert find_model("toy", 2).name == "toy-x2"
    assert find_model("toy-fetched-x4", None).source.endswith("toy-x4.pth")
    with pytest.raises(ConfigError, match=r"no scale 3; it has 2, 4"):
        find_model("toy", 3)


@pytest.mark.usefixtures("shelf")
def test_a_model_for_any_scale_takes_what_no_other_does():
    assert find_model("far-any", 7).name == "far-any"
    assert find_model("far", 7).name == "far-any"


def test_the_file_of_what_ships(shelf):
    model = find_model("toy", None)
    assert locate(model) == shelf / "toy-x4.safetensors"
    assert expected_sha256(model) == DIGEST
    assert not model.is_classical
    assert find_model("lanczos", None).is_classical


@pytest.mark.usefixtures("shelf")
def test_what_was_not_fetched_says_how_to_get_it():
    model = find_model("far-x3", None)
    assert not model.is_classical
    for ask in (locate, expected_sha256):
        with pytest.raises(WeightsError) as caught:
            ask(model)
        assert str(caught.value) == (
            "model 'far-x3' is not on this machine; run 'vsr-models pull far-x3', or fetch "
            "https://huggingface.co/owner/far/resolve/main/x3.pth elsewhere and put it at "
            f"{cache_path('hf:owner/far/x3.pth')}"
        )


@pytest.mark.usefixtures("shelf")
def test_a_home_that_cannot_be_looked_into_holds_nothing(monkeypatch):
    """Somebody else's, as of a service that was not given one of its own."""
    model = find_model("far-x3", None)

    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    monkeypatch.setattr("vsr.cache.os.path.isfile", lambda path: False)
    with pytest.raises(WeightsError, match="'far-x3' is not on this machine"):
        locate(model)


@pytest.mark.usefixtures("shelf")
def test_what_is_looked_up_says_on_whose_page():
    with pytest.raises(WeightsError) as caught:
        locate(find_model("lost", 2))
    assert str(caught.value) == (
        "model 'lost-x2' is not on this machine; run 'vsr-models pull lost-x2', or fetch x2.pth "
        "from https://huggingface.co/owner elsewhere and put it at "
        f"{cache_path('hf:owner/*/x2.pth')}"
    )


@pytest.mark.usefixtures("shelf")
def test_what_was_fetched_is_found():
    known, unknown = find_model("toy", 2), find_model("far-x3", None)
    path = put(known.source, b"not what the index expects")
    assert locate(known) == path
    assert expected_sha256(known) == DIGEST
    path = put(unknown.source, b"one")
    assert locate(unknown) == path
    first = hashlib.sha256(b"one").hexdigest()
    assert expected_sha256(unknown) == first
    assert beside(path, ".sha256").exists()
    path.write_bytes(b"another")
    assert expected_sha256(unknown) == first


# The index that ships.


def downloads():
    return tomllib.loads((models_folder() / "index.toml").read_text())["download"]


def test_names_are_unique():
    names = [model.name for model in list_models()]
    assert len(names) == len(set(names))


def test_what_is_fetched_takes_no_name_of_what_ships():
    here = [model for model in list_models() if not model.source]
    taken = {model.name for model in here} | {model.family for model in here} | {"sst"}
    for entry in downloads():
        assert entry["family"] not in taken
        assert entry["name"] not in taken


@pytest.mark.parametrize("entry", downloads(), ids=lambda entry: entry["name"])
def test_entries_are_complete(entry):
    model = find_model(entry["name"], None)
    reference = parse(model.source)
    parts = urlsplit(reference.url)
    assert parts.scheme == "https"
    assert reference.search or parts.path.endswith((".pth", ".safetensors"))
    assert model.variant in ("", *sst.VARIANTS, *esc.VARIANTS)
    assert re.fullmatch(r"([0-9a-f]{64})?", model.sha256)
    assert model.licence in ("Apache-2.0", "MIT", "MIT (code)")
    assert model.architecture
    assert model.summary
    assert str(model.scale) in model.name


def test_each_source_is_listed_once():
    places = [cache_path(entry["source"]) for entry in downloads()]
    assert len(places) == len(set(places))


@pytest.mark.parametrize("variant", sst.VARIANTS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_sst_is_listed(variant, scale):
    model = find_model("sst-base" if variant == "sst" else variant, scale)
    assert (model.architecture, model.variant, model.scale) == ("sst", variant, scale)
    assert model.source.endswith(f"_X{scale}.pth")
    assert f" x{scale}: " in model.paper or variant == "sst-xl+"
