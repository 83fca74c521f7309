"""What hypothesis thinks of: manifests, indexes and y4m headers of any shape are used or refused.

Beside ``test_fuzz.py``, whose damage is to bytes: here what is read is well formed and means
nothing, and hypothesis looks for the smallest thing that breaks a reader.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vsr.errors import VsrError
from vsr.index import list_models, models_folder
from vsr.resume.manifest import Manifest, seal
from vsr.sources import SourceConfig, open_source

QUICK = settings(
    max_examples=250, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
)
JSON = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@contextmanager
def at_most_refused() -> Iterator[None]:
    """In one line, if at all."""
    try:
        yield
    except VsrError as error:
        if "\n" in str(error):
            pytest.fail(f"a message of several lines: {error}")


@pytest.fixture(scope="session")
def manifest(scripts, tmp_path_factory) -> dict[str, Any]:
    """Of a run that was stopped."""
    folder = tmp_path_factory.mktemp("seeds") / "seeds"
    scripts("fuzz_seeds").make_seeds(folder, None)
    content: dict[str, Any] = json.loads(
        (folder / "work" / "out.mkv.parts" / "manifest.json").read_text()
    )
    assert Manifest.parse(json.dumps(content), Path("manifest.json")).segments
    return content


@QUICK
@given(data=st.data())
def test_manifests(manifest, data):
    """One with its own seal, in which values are anything."""
    content = json.loads(json.dumps(manifest))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = content, data.draw(st.sampled_from(sorted(set(content) - {"sha256"})))
        while isinstance(holder[key], dict | list) and holder[key] and data.draw(st.booleans()):
            holder = holder[key]
            keys = sorted(holder) if isinstance(holder, dict) else range(len(holder))
            key = data.draw(st.sampled_from(keys))
        holder[key] = data.draw(JSON)
    content.pop("sha256", None)
    sealed = json.dumps({**content, "sha256": seal(content)})
    with at_most_refused():
        Manifest.parse(sealed, Path("manifest.json"))


@QUICK
@given(
    key=st.sampled_from(["name", "family", "scale", "file", "sha256", "psnr", "purpose", "new"]),
    value=LEAF.filter(lambda value: value is not None) | st.lists(st.integers(), max_size=2),
)
def test_indexes(monkeypatch, tmp_path, key, value):
    """The index that ships, with an entry behind it of which one value is anything."""
    entry = {"name": "x", "family": "x", "scale": 2, "file": "x", "summary": "x"} | {key: value}
    lines = [f"{name} = {json.dumps(held)}" for name, held in entry.items()]
    text = (models_folder() / "index.toml").read_text() + "\n[[model]]\n" + "\n".join(lines)
    (tmp_path / "index.toml").write_text(text)
    monkeypatch.setattr("vsr.index.models_folder", lambda: tmp_path)
    list_models.cache_clear()
    with at_most_refused():
        assert list_models()
    list_models.cache_clear()


@QUICK
@given(
    words=st.lists(
        st.sampled_from(["W16", "H12", "F25:1", "Ip", "It", "A1:1", "C420mpeg2", "C444p10"])
        | st.builds(
            str.__add__, st.sampled_from("WHFIACX"), st.text(st.characters(max_codepoint=255))
        )
        | st.builds("{}{}".format, st.sampled_from("WH"), st.integers(-5, 40)),
        max_size=9,
    ),
    rest=st.binary(max_size=64),
)
def test_y4m_headers(tmp_path, words, rest):
    path = tmp_path / "in.y4m"
    header = "YUV4MPEG2 " + " ".join(words) + "\n"
    path.write_bytes(header.encode("latin-1", "replace") + b"FRAME\n" + rest)
    with at_most_refused(), open_source(path, SourceConfig()) as source:
        assert sum(1 for _ in source) < 10
