"""Downloads from a server that behaves, and from one that does not."""

import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import vsr.hub.library
import vsr.hub.searching
from vsr.cache import (
    beside,
    cache_folder,
    cache_path,
    cached,
    cached_files,
    check,
    local_file,
    parse,
)
from vsr.cli.models import main
from vsr.errors import ConfigError, CorruptWeightsError, WeightsError
from vsr.hub import Limits, fetch

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What a checkpoint begins with that PyTorch wrote before it wrote archives."""
WEIGHTS = LEGACY + bytes(range(256)) * 4000  # more than a socket's buffers take at once
OTHER = LEGACY + WEIGHTS[: len(LEGACY) - 1 : -1]
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
HALF = len(WEIGHTS) // 2
HALF_DIGEST = hashlib.sha256(WEIGHTS[:HALF]).hexdigest()
QUICK = Limits(timeout=1.0, tries=3, backoff=0.01)
WITH_HUB = importlib.util.find_spec("huggingface_hub") is not None


@dataclass(frozen=True)
class Reply:
    """How the server answers one request."""

    content: bytes = WEIGHTS
    etag: str = '"first"'
    ranges: bool = True
    status: int = 200
    kind: str = "application/octet-stream"
    location: str = ""
    link: str = ""
    cut: int | None = None
    """Close the connection after so many bytes of the body."""
    stall: bool = False
    """Send nothing more after ``cut``, until the server is told to go on."""
    begin: int = 0
    """Continue so many bytes beside what was asked for."""
    length: int | None = None
    """What is said of the size, whatever is sent; negative: nothing is said."""
    coding: str = ""
    """How the content is said to be packed."""


GOOD = Reply()


class Handler(http.server.BaseHTTPRequestHandler):
    server: "Server"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.log.append(self)
        replies = self.server.replies
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        body = self.begin(reply)
        if self.command == "HEAD":
            return
        cut = len(body) if reply.cut is None else reply.cut
        try:
            self.wfile.write(body[:cut])
            if reply.stall:
                self.server.go_on.wait(20)
                self.wfile.write(body[cut:])
        except OSError:  # the client had enough
            return

    def begin(self, reply):
        """Send status and headers; say what of the content belongs to the answer."""
        wanted = self.headers.get("Range", "")
        resume = reply.ranges and wanted and self.headers.get("If-Range") == reply.etag
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if resume else 0
        body = reply.content[start:]
        if resume and not body and reply.length is None:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(reply.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return body
        self.send_response(206 if resume and reply.status == 200 else reply.status)
        if resume:
            first = start + reply.begin
            self.send_header("Content-Range", f"bytes {first}-{len(reply.content) - 1}/*")
        if reply.etag:
            self.send_header("ETag", reply.etag)
        if reply.location:
            self.send_header("Location", reply.location)
        if reply.link:
            self.send_header("Link", reply.link)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Type", reply.kind)
        if reply.coding:
            self.send_header("Content-Encoding", reply.coding)
        length = len(body) if reply.length is None else reply.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        return body

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies = [GOOD]
        self.log = []
        self.go_on = threading.Event()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self):
        return f"{self.endpoint}/weights.pth"

    @property
    def ranges(self):
        """What was asked of the file by each request: None for all of it."""
        return [request.headers.get("Range") for request in self.log]


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


def left_over():
    """What lies in the cache, apart from locks."""
    found = [path for path in cache_folder().rglob("*") if path.is_file()]
    return sorted(path.suffix for path in found if path.suffix != ".lock")


def one_line(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


# When all goes well.


def test_a_file_arrives_with_its_record(server):
    seen = []
    path = fetch(server.url, limits=QUICK, on_bytes=lambda *args: seen.append(args))
    assert path == cache_path(server.url) == cached(server.url)
    assert path.read_bytes() == WEIGHTS
    assert beside(path, ".sha256").read_text() == f"{DIGEST}  {path.name}\n"
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)
    assert left_over() == [".pth", ".sha256"]
    assert cached_files() == [path]


def test_what_is_there_is_not_fetched_again(server):
    fetch(server.url, limits=QUICK)
    fetch(server.url, limits=QUICK)
    fetch(server.url, limits=QUICK, sha256=DIGEST.upper())
    assert len(server.log) == 1
    server.replies = [replace(GOOD, content=OTHER)]
    fetch(server.url, limits=QUICK, force=True)
    assert cached(server.url).read_bytes() == OTHER


def test_a_redirect_is_followed(server):
    server.replies = [Reply(status=302, location="/elsewhere", content=b""), GOOD]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert [request.path for request in server.log] == ["/weights.pth", "/elsewhere"]


def test_trouble_that_passes(server):
    server.replies = [Reply(status=500, content=b""), Reply(status=503, content=b""), GOOD]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert len(server.log) == 3


# What was begun goes on.


@pytest.mark.parametrize("stall", [False, True], ids=["truncated", "slow"])
def test_a_broken_connection_goes_on_where_it_ended(server, stall):
    server.replies = [Reply(cut=HALF, stall=stall), GOOD]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_a_later_run_goes_on_where_an_earlier_one_ended(server):
    server.replies = [Reply(cut=HALF), Reply(cut=10)]
    with pytest.raises(WeightsError, match=r"ended after .* 3 times; run the same again to go on"):
        fetch(server.url, limits=QUICK)
    assert left_over() == [".etag", ".part"]
    assert cached_files() == []
    server.replies = [GOOD]
    assert fetch(server.url, limits=QUICK, sha256=DIGEST).read_bytes() == WEIGHTS
    assert server.ranges[-1] == f"bytes={HALF + 20}-"


@pytest.mark.parametrize(
    "second",
    [
        Reply(ranges=False),
        Reply(etag='"second"', content=WEIGHTS),
        Reply(etag='"second"', content=WEIGHTS + b"more"),
    ],
    ids=["no ranges", "other ETag", "other ETag and length"],
)
def test_what_cannot_be_continued_starts_anew(server, second):
    server.replies = [Reply(cut=HALF, content=OTHER if second.ranges else WEIGHTS), second]
    assert fetch(server.url, limits=QUICK).read_bytes() == second.content
    assert server.ranges[1] == f"bytes={HALF}-"


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_nothing_is_continued(server, etag):
    server.replies = [Reply(cut=HALF, etag=etag), Reply(etag=etag)]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert server.ranges == [None, None]


@pytest.mark.parametrize("second", [Reply(begin=7), Reply(status=416, content=b"")])
def test_a_server_that_continues_wrongly_is_asked_for_all(server, second):
    server.replies = [Reply(cut=HALF), second, GOOD]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert server.ranges == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize("content", [WEIGHTS, WEIGHTS[:-1]])
def test_what_had_come_to_its_last_byte_is_not_fetched_again(server, content):
    part = beside(cache_path(server.url), ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(WEIGHTS)
    beside(part, ".etag").write_text('"first"')
    server.replies = [Reply(content=content)]
    seen = []
    path = fetch(server.url, limits=QUICK, on_bytes=lambda *args: seen.append(args))
    assert path.read_bytes() == content
    shorter = content != WEIGHTS
    assert server.ranges == [f"bytes={len(WEIGHTS)}-", *([None] if shorter else [])]
    assert seen[-1] == (len(content), len(content))
    assert left_over() == [".pth", ".sha256"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_a_disk_that_takes_half_of_a_block(server):
    """It takes what it has room for, and says so only when it is asked for the rest."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(WEIGHTS) - 7, hard))
    try:
        with pytest.raises(WeightsError, match=r"weights.*: File too large") as caught:
            fetch(server.url, limits=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one_line(caught)
    part = beside(cache_path(server.url), ".part")
    assert part.stat().st_size == len(WEIGHTS) - 7
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert server.ranges == [None, f"bytes={len(WEIGHTS) - 7}-"]


def test_what_is_behind_a_redirect_goes_on_too(server):
    away = Reply(status=302, location="/signed", content=b"", etag="")
    server.replies = [away, Reply(cut=HALF), away, GOOD]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert server.log[-1].path == "/signed"
    assert server.ranges[-1] == f"bytes={HALF}-"


# What is refused.


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(content=b"<!DOCTYPE html>" + WEIGHTS, kind="text/html"), "an HTML page"),
        (Reply(content=b"<!-- saved -->" + WEIGHTS, kind="text/html"), "an HTML page"),
        (Reply(content=b"\n<html>" + WEIGHTS), "an HTML page"),
        (Reply(content=b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
        (Reply(content=b"Not Found"), "only 9 bytes"),
        (Reply(content=b""), "only 0 bytes"),
    ],
)
def test_what_is_no_weights_leaves_nothing(server, reply, words):
    server.replies = [reply]
    with pytest.raises(CorruptWeightsError, match=words) as caught:
        fetch(server.url, limits=QUICK)
    assert server.url in one_line(caught)
    assert left_over() == []


def test_a_wrong_hash_leaves_nothing(server):
    with pytest.raises(CorruptWeightsError, match=f"its sha256 is {DIGEST}, not 000") as caught:
        fetch(server.url, limits=QUICK, sha256="0" * 64)
    one_line(caught)
    assert left_over() == []


def test_a_small_file_with_the_right_hash_is_what_was_asked_for(server):
    server.replies = [Reply(content=b"tiny")]
    digest = hashlib.sha256(b"tiny").hexdigest()
    assert fetch(server.url, limits=QUICK, sha256=digest).read_bytes() == b"tiny"


def test_a_failed_replacement_leaves_the_old_file(server):
    path = fetch(server.url, limits=QUICK)
    server.replies = [Reply(content=b"<html>")]
    with pytest.raises(CorruptWeightsError):
        fetch(server.url, limits=QUICK, force=True)
    assert path.read_bytes() == WEIGHTS
    assert left_over() == [".pth", ".sha256"]


def test_trust_on_first_use(server):
    path = fetch(server.url, limits=QUICK)
    path.unlink()
    server.replies = [replace(GOOD, content=OTHER)]
    with pytest.raises(CorruptWeightsError, match=f"not {DIGEST}"):
        fetch(server.url, limits=QUICK)
    assert not path.exists()
    assert fetch(server.url, limits=QUICK, force=True).read_bytes() == OTHER
    check(path)


def test_a_damaged_copy_is_noticed_and_replaced(server):
    path = fetch(server.url, limits=QUICK)
    path.write_bytes(WEIGHTS[:-1] + b"x")
    with pytest.raises(CorruptWeightsError, match="not the one recorded"):
        cached(server.url)
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert len(server.log) == 2


# What cannot be had.


@pytest.mark.parametrize(
    ("reply", "words", "requests"),
    [
        (Reply(status=404, content=b""), r"answers 404 \(no such file\)", 1),
        (Reply(status=403, content=b""), r"not allowed \(403\)", 1),
        (Reply(status=401, content=b""), r"not allowed \(401\), or no such file$", 1),
        (Reply(status=418, content=b""), "answers 418", 1),
        (Reply(status=503, content=b""), "answers 503, 3 times", 3),
        (Reply(cut=0, stall=True), "no byte came in time, 3 times", 3),
        (Reply(status=302, location="/weights.pth", content=b""), "in circles", None),
        (Reply(status=302, location="http://example.org/x", content=b""), "unprotected", 1),
        (Reply(status=302, location="file:///etc/x", content=b""), "file:///etc/x, away from", 1),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(server, reply, words, requests):
    server.replies = [reply]
    with pytest.raises(WeightsError, match=words) as caught:
        fetch(server.url, limits=QUICK)
    assert server.url in one_line(caught)
    assert len(server.log) == requests or (requests is None and len(server.log) <= 11)
    assert not cache_path(server.url).exists()


def archive(*names):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name in names:
            file.writestr(name, bytes(2000))
    return held.getvalue()


def safetensors(end=2000):
    header = json.dumps({"w": {"dtype": "U8", "shape": [end], "data_offsets": [0, end]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(end)


ZIP, SAFE = archive("w/data.pkl", "w/data/0"), safetensors()
JSON = b' {"error": "quota", "text": "%s"}' % (b"x" * 2000)


@pytest.mark.parametrize("length", [None, -1], ids=["length", "no length"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pth", ZIP), ("w.pt", ZIP), ("w", ZIP), ("w.pth", SAFE), ("w.safetensors", SAFE),
        ("w?x=y.zip", SAFE), ("w.ckpt", WEIGHTS), ("w.bin", bytes(2000)),
    ],
)  # fmt: skip
def test_what_is_whole_is_taken_without_a_hash(server, name, content, length):
    server.replies = [Reply(content=content, length=length)]
    assert fetch(f"{server.endpoint}/{name}", limits=QUICK).read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("w.pth", ZIP[: len(ZIP) // 2], f"damaged, or cut off after {len(ZIP) // 2} bytes"),
        ("w", ZIP[:-1], "an archive that is damaged, or cut off after .* bytes"),
        ("w.pth", archive("readme.txt"), "a zip archive, not weights"),
        ("w.safetensors", SAFE[:1500], f"1500 bytes came of {len(SAFE)}"),
        ("w", SAFE[:-1], f"{len(SAFE) - 1} bytes came of {len(SAFE)}"),
        ("w.safetensors", SAFE + b"x", f"{len(SAFE) + 1} bytes came of {len(SAFE)}"),
        ("w.safetensors", (1 << 20).to_bytes(8, "little") + b"{" * 2000, "in its header"),
        ("w.safetensors", (50).to_bytes(8, "little") + b"{" * 2000, "no safetensors file"),
        ("w.safetensors", WEIGHTS, "no safetensors file"),
        ("w.safetensors", ZIP, "no safetensors file"),
        ("w.pth", JSON, "a JSON text, not weights"),
        ("w.safetensors", JSON, "a JSON text, not weights"),
        ("w", JSON, "a JSON text, not weights"),
        ("w.pth", bytes(2000), "it does not begin as a checkpoint does"),
    ],
)  # fmt: skip
def test_what_is_not_whole_is_not_trusted(server, name, content, words):
    server.replies = [Reply(content=content, length=-1)]
    with pytest.raises(CorruptWeightsError, match=f"{words}; nothing was kept") as caught:
        fetch(f"{server.endpoint}/{name}", limits=QUICK)
    assert one_line(caught).startswith(f"{server.endpoint}/{name}: ")
    assert left_over() == []


def test_a_known_hash_is_all_that_counts(server):
    server.replies = [Reply(content=JSON)]
    digest = hashlib.sha256(JSON).hexdigest()
    assert fetch(server.url, limits=QUICK, sha256=digest).read_bytes() == JSON


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(length=1 << 40), "more than 2 GB, which are no weights"),
        (Reply(content=gzip.compress(bytes(1 << 24)), coding="gzip"), "sends it as gzip"),
        (Reply(length=HALF), f"its sha256 is {HALF_DIGEST}, not {DIGEST}"),
        (Reply(content=b"PK" + WEIGHTS), "its sha256 is"),
    ],
)
def test_a_server_that_lies_leaves_nothing(server, reply, words):
    server.replies = [reply]
    limits = replace(QUICK, size=2_000_000_000)
    with pytest.raises(CorruptWeightsError, match=words) as caught:
        fetch(server.url, limits=limits, sha256=DIGEST)
    assert server.url in one_line(caught)
    assert left_over() == []


def test_a_size_that_is_never_reached(server):
    """What came is kept for another try, but never under the file's name."""
    server.replies = [Reply(length=len(WEIGHTS) + 1)]
    with pytest.raises(WeightsError, match=rf"ended after {len(WEIGHTS)} of \d+"):
        fetch(server.url, limits=replace(QUICK, timeout=0.3), sha256=DIGEST)
    assert not cache_path(server.url).exists()


@pytest.mark.parametrize("length", [-1, 1000])
def test_a_body_without_end(server, length):
    """Said to have no length, or a small one: in neither case is more than the limit written."""
    server.replies = [Reply(content=bytes(8 << 20), length=length)]
    with pytest.raises(CorruptWeightsError, match="no weights"):
        fetch(server.url, limits=replace(QUICK, size=1 << 20))
    assert left_over() == []


def test_redirects_are_counted(server):
    server.replies = [Reply(status=302, location=f"/{n}", content=b"") for n in range(9)] + [GOOD]
    with pytest.raises(WeightsError, match="too often"):
        fetch(server.url, limits=replace(QUICK, redirects=4))
    assert len(server.log) == 5


@pytest.mark.parametrize("url", ["https://nowhere.invalid/w.pth", "http://127.0.0.1:9/w.pth"])
def test_offline_is_one_line_with_the_way_out(url):
    with pytest.raises(WeightsError) as caught:
        fetch(url, limits=QUICK)
    line = one_line(caught)
    assert line.startswith(f"cannot reach {urlsplit(url).netloc} (")
    assert line.endswith(f"offline, fetch {url} elsewhere and put it at {cache_path(url)}")


def test_a_file_put_there_by_hand_is_used(server):
    path = cache_path(server.url)
    with pytest.raises(WeightsError, match="run 'vsr-models pull") as caught:
        cached(server.url)
    assert str(path) in one_line(caught)
    path.parent.mkdir(parents=True)
    path.write_bytes(WEIGHTS)
    assert cached(server.url) == local_file(server.url) == fetch(server.url, limits=QUICK) == path
    assert server.log == []
    assert beside(path, ".sha256").exists()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, server):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"Not a directory|File exists") as caught:
        fetch(server.url, limits=QUICK)
    assert str(tmp_path / "file") in one_line(caught)


def test_plain_http_needs_a_hash():
    with pytest.raises(ConfigError, match="only https can be trusted"):
        fetch("http://example.invalid/w.pth")
    with pytest.raises(WeightsError, match="cannot reach"):
        fetch("http://example.invalid/w.pth", sha256=DIGEST, limits=QUICK)


# Other processes.


def pull(url):
    return subprocess.Popen(
        [sys.executable, "-m", "vsr.cli.models", "pull", url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_killed_pull_is_continued(server, number, code):
    server.replies = [Reply(cut=HALF, stall=True)]
    part = beside(cache_path(server.url), ".part")
    with pull(server.url) as process:
        wait_for(lambda: part.exists() and part.stat().st_size == HALF)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == code
    assert part.read_bytes() == WEIGHTS[:HALF]
    assert not cache_path(server.url).exists()
    server.replies = [GOOD]
    assert fetch(server.url, limits=QUICK).read_bytes() == WEIGHTS
    assert server.ranges == [None, f"bytes={HALF}-"]


def test_two_pulls_of_one_file_fetch_it_once(server):
    server.replies = [Reply(cut=HALF, stall=True), GOOD]
    with pull(server.url) as first, pull(server.url) as second:
        wait_for(lambda: server.log)
        time.sleep(0.5)  # time for the other one to ask too, if it does not wait
        server.go_on.set()
        answers = [process.communicate() for process in (first, second)]
    assert answers == [(f"{cache_path(server.url)}\n", "")] * 2
    assert server.ranges == [None]
    assert cached(server.url).read_bytes() == WEIGHTS


# What the Hub is asked first.


@pytest.fixture(params=["urllib", "huggingface_hub"])
def hub(request, server, monkeypatch):
    """The server as the Hub, with its library and without."""
    if request.param == "urllib":
        monkeypatch.setattr(vsr.hub.library, "find_spec", lambda name: None)
    elif not WITH_HUB:
        pytest.skip("huggingface_hub is not installed")
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    return server


def holding(*repositories, link=""):
    """A page of the Hub's list: each repository is its name and its files."""
    page = [{"id": i, "siblings": [{"rfilename": f} for f in files]} for i, *files in repositories]
    return Reply(json.dumps(page).encode(), etag="", kind="application/json", link=link)


def answering(repository, *files):
    """What the Hub says of one repository."""
    page = json.loads(holding((repository, *files)).content)[0]
    return Reply(json.dumps(page).encode(), etag="", kind="application/json")


def asked(server):
    """What was fetched, without what the library wants to know besides."""
    got = [request.path for request in server.log if request.command == "GET"]
    return [path for path in got if path.startswith("/api/models") or "/resolve/" in path]


NEXT = '<https://a.invalid/x?cursor=P>; rel="prev", <https://b.invalid/y?cursor=Q>; rel="next"'


def test_the_repository_of_a_file_is_looked_up(hub):
    hub.replies = [
        holding(("Owner/one", "README.md", "a.pth"), link=NEXT),
        holding(("Owner/two", "b.pth", "sub/x.pth"), ("other/three", "x.pth")),
        GOOD,
    ]
    path = fetch("hf:owner/*/x.pth", limits=QUICK)
    assert path == cached("hf:owner/*/x.pth")
    assert path == cache_folder() / "huggingface.co/owner/@any/x.pth"
    assert path.read_bytes() == WEIGHTS
    assert asked(hub) == [
        "/api/models?author=owner&full=true",
        "/api/models?cursor=Q",
        "/Owner/two/resolve/main/sub/x.pth",
    ]
    assert left_over() == [".pth", ".sha256"]
    requests = len(hub.log)
    fetch("hf:owner/*/x.pth", limits=QUICK)
    assert len(hub.log) == requests


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["README.md", "x.pth"], "x.pth"),
        (["sub/x.pt", "config.json"], "sub/x.pt"),
        (["x.pth", "x.safetensors"], "x.safetensors"),
        (["x.pth", "(1).pth", "../../../up.pth"], "x.pth"),
    ],
)
def test_the_only_weights_of_a_repository(hub, files, chosen):
    content = SAFE if chosen.endswith(".safetensors") else WEIGHTS
    hub.replies = [answering("owner/renamed", *files), replace(GOOD, content=content)]
    path = fetch("hf:owner/repo@v1", limits=QUICK)
    assert path == cache_folder() / "huggingface.co/owner/repo/v1/@weights"
    assert path.read_bytes() == content
    assert asked(hub) == ["/api/models/owner/repo/revision/v1", f"/owner/repo/resolve/v1/{chosen}"]
    assert cached_files() == [path]


@pytest.mark.parametrize(
    ("reference", "reply", "words"),
    [
        ("hf:owner/*/x.pth", holding(), "hf:owner/*/x.pth: no weights there"),
        ("hf:owner/*/x.pth", holding(("owner/a", "README.md")), "no weights there"),
        ("hf:owner/*/x.pth", holding(("stranger/a", "x.pth")), "no weights there"),
        ("hf:owner/*/x.pth", Reply(b'[{"id": "owner/a", "siblings": null}]'), "no weights there"),
        (
            "hf:owner/*/x.pth", holding(("owner/a", "far.pt"), ("owner/b", "x2.pth", "notes.txt")),
            "no such file; there are hf:owner/b/x2.pth, hf:owner/a/far.pt; say which",
        ),
        (
            "hf:owner/*/x.pth", holding(*((f"owner/{n}", "y.pth") for n in range(20))),
            "hf:owner/5/y.pth and 14 more; say which",
        ),
        (
            "hf:owner/*/x.pth", holding(("owner/a", "x.pth"), ("owner/b", "sub/x.pth")),
            "2 files fit: hf:owner/a/x.pth, hf:owner/b/sub/x.pth; say which",
        ),
        ("hf:owner/repo", answering("owner/repo", "README.md"), "hf:owner/repo: no weights there"),
        (
            "hf:owner/repo", answering("owner/repo", "a.pth", "b.pth", "b.safetensors"),
            "2 files fit: hf:owner/repo/a.pth, hf:owner/repo/b.safetensors; say which",
        ),
        ("hf:owner/repo", Reply(b"", status=404), "answers 404 (no such repository)"),
        ("hf:owner/repo", Reply(b"", status=401), "not allowed (401), or no such repository"),
        ("hf:owner/*/x.pth", Reply(b"", status=404), "answers 404 (no such owner)"),
        ("hf:owner/*/x.pth", Reply(b"", status=503), "answers 503, 3 times"),
        ("hf:owner/*/x.pth", replace(holding(("owner/a", "x.pth")), cut=9), "ended after 9 of"),
        ("hf:owner/*/x.pth", holding(link=NEXT), "the list does not end"),
        ("hf:owner/*/x.pth", Reply(b"<html>"), "something else than files"),
        ("hf:owner/*/x.pth", Reply(b"\xff"), "something else than files"),
        ("hf:owner/*/x.pth", Reply(b"[" * 100_000), "something else than files"),
        ("hf:owner/*/x.pth", Reply(b'["x.pth"]'), "something else than files"),
        ("hf:owner/*/x.pth", Reply(b'[{"siblings": [{}]}]'), "something else than files"),
        ("hf:owner/repo", Reply(b'{"error": "x"}'), "something else than files"),
        ("hf:owner/repo", Reply(b"12"), "something else than files"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_up_is_said_in_one_line(hub, monkeypatch, reference, reply, words):
    monkeypatch.setattr(vsr.hub.searching, "_MOST_PAGES", 3)
    hub.replies = [reply]
    with pytest.raises(WeightsError) as caught:
        fetch(reference, limits=QUICK)
    assert words in one_line(caught)
    assert left_over() == []


def test_a_list_without_end_in_bytes(hub, monkeypatch):
    monkeypatch.setattr(vsr.hub.searching, "_MOST_BYTES", 1000)
    with pytest.raises(WeightsError, match="more than a list of files"):
        fetch("hf:owner/repo", limits=QUICK)


@pytest.mark.parametrize("reference", ["hf:owner/repo/x.pth", "hf:owner/repo"])
def test_on_the_hub_one_can_log_in(hub, reference):
    hub.replies = [Reply(status=401, content=b"")]
    with pytest.raises(WeightsError, match="pip install huggingface_hub and log in"):
        fetch(reference, limits=QUICK)


def test_trouble_that_passes_while_looking_up(hub):
    page = holding(("owner/a", "x.pth"))
    hub.replies = [Reply(b"", status=503), replace(page, cut=5), page, GOOD]
    assert fetch("hf:owner/*/x.pth", limits=QUICK).read_bytes() == WEIGHTS


def test_what_was_looked_up_is_trusted_as_it_first_came(hub):
    page = holding(("owner/a", "x.pth"))
    hub.replies = [page, GOOD]
    path = fetch("hf:owner/*/x.pth", limits=QUICK)
    path.unlink()
    hub.replies = [page, replace(GOOD, content=OTHER, etag='"second"')]
    with pytest.raises(CorruptWeightsError, match=f"not {DIGEST}"):
        fetch("hf:owner/*/x.pth", limits=QUICK)
    hub.replies = [page, GOOD]
    with pytest.raises(CorruptWeightsError, match="not 000"):
        fetch("hf:owner/*/x.pth", limits=QUICK, sha256="0" * 64)


def test_a_token_goes_to_the_hub_and_no_further(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setattr(vsr.hub.library, "find_spec", lambda name: None)
    monkeypatch.setattr(vsr.hub.searching, "token", lambda: "secret")
    away = Reply(status=307, location="/api/models/owner/new", content=b"")
    server.replies = [away, answering("owner/new", "x.pth"), GOOD]
    fetch("hf:owner/repo", limits=QUICK)
    shown = [request.headers.get("Authorization") for request in server.log]
    assert shown == ["Bearer secret", None, None]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("hf:owner/*/x.pth", "x.pth from http://127.0.0.1:9/owner"),
        ("hf:owner/repo", "the weights from http://127.0.0.1:9/owner/repo"),
    ],
)
def test_offline_the_page_to_look_at_is_named(hub, monkeypatch, reference, words):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    place = f"fetch {words} elsewhere and put it at {cache_path(reference)}"
    with pytest.raises(WeightsError) as caught:
        fetch(reference, limits=QUICK)
    assert one_line(caught).startswith("cannot reach 127.0.0.1:9 (")
    assert one_line(caught).endswith(f"offline, {place}")
    with pytest.raises(WeightsError) as caught:
        cached(reference)
    assert one_line(caught).endswith(f"run 'vsr-models pull {reference}', or {place}")
    cache_path(reference).parent.mkdir(parents=True, exist_ok=True)
    cache_path(reference).write_bytes(WEIGHTS)
    assert fetch(reference, limits=QUICK) == cached(reference)


def test_a_listed_model_is_looked_up(hub, capsys):
    hub.replies = [holding(("dslisleedh/SST", "SSTlight_DFLIP_X2.pth")), GOOD]
    assert main(["pull", "sst-light-dflip-x2"]) == 0
    out, err = capsys.readouterr()
    path = cache_path("hf:dslisleedh/*/SSTlight_DFLIP_X2.pth")
    assert (out, path.read_bytes()) == (f"{path}\n", WEIGHTS)
    assert "error" not in err
    hub.replies = [holding(("dslisleedh/SST", "SSTlight_DFLIP_X2.safetensors"))]
    assert main(["pull", "sst-light-dflip-x4"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "hf:dslisleedh/SST/SSTlight_DFLIP_X2.safetensors; say which" in err


# References.


def test_a_file_of_the_hub_without_its_library(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.setattr(vsr.hub.library, "find_spec", lambda name: None)
    path = fetch("hf:owner/repo/sub/weights.pth@v1", limits=QUICK)
    assert server.log[0].path == "/owner/repo/resolve/v1/sub/weights.pth"
    assert path == cache_folder() / "huggingface.co/owner/repo/v1/sub/weights.pth"
    assert path.read_bytes() == WEIGHTS


@pytest.mark.skipif(not WITH_HUB, reason="huggingface_hub is not installed")
def test_a_file_of_the_hub_with_its_library(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    path = fetch("hf:owner/repo/sub/weights.pth", limits=QUICK, sha256=DIGEST)
    assert path.read_bytes() == WEIGHTS
    assert {request.command for request in server.log} == {"HEAD", "GET"}
    assert left_over() == [".pth", ".sha256"]


@pytest.mark.skipif(not WITH_HUB, reason="huggingface_hub is not installed")
def test_the_hub_library_fails_in_our_words(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    server.replies = [Reply(status=404, content=b"")]
    with pytest.raises(WeightsError, match="answers 404") as caught:
        fetch("hf:owner/repo/weights.pth", limits=QUICK)
    one_line(caught)
    server.replies = [GOOD]
    with pytest.raises(CorruptWeightsError, match="not 000"):
        fetch("hf:owner/repo/weights.pth", limits=QUICK, sha256="0" * 64)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"cannot reach 127\.0\.0\.1:9") as caught:
        fetch("hf:owner/repo/weights.pth", limits=QUICK)
    assert "put it at" in one_line(caught)
    assert left_over() == []


LIES = {
    "a size that no weights have": ([Reply(length=30_000_000)], "more than 0.02 GB"),
    "no size": ([Reply(content=bytes(24 << 20), length=-1)], "more than 0.02 GB"),
    "more than announced": (
        [Reply(length=HALF), Reply(length=HALF), Reply(length=-1)],
        f"more than the {HALF} bytes that were announced",
    ),
    "less than announced": ([GOOD, GOOD, Reply(content=WEIGHTS[:HALF], length=-1)], "should be of"),
    "what unpacks to more": (
        [Reply(content=gzip.compress(bytes(1 << 24)), coding="gzip")], "that were announced",
    ),
    "another size": ([Reply(length=HALF)], f"its sha256 is {HALF_DIGEST}, not {DIGEST}"),
    "the same beginning without end": (
        [Reply(content=bytes(12 << 20), cut=11 << 20, ranges=False)], "the connection broke off",
    ),
    "a way without protection": (
        [Reply(status=302, location="http://192.0.2.1/w.pth", content=b"")], "unprotected",
    ),
}  # fmt: skip


@pytest.mark.skipif(not WITH_HUB, reason="huggingface_hub is not installed")
@pytest.mark.parametrize("name", LIES)
def test_the_hub_library_is_held_to_what_a_server_says(server, monkeypatch, name):
    """It would write whatever comes, as long as it comes."""
    server.replies, words = list(LIES[name][0]), LIES[name][1]
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    limits = replace(QUICK, tries=1, size=20_000_000)
    known = "" if "protection" in name else DIGEST
    with pytest.raises(WeightsError, match=words) as caught:
        fetch("hf:owner/repo/weights.pth", limits=limits, sha256=known)
    assert "\n" not in str(caught.value)
    assert left_over() == []


@pytest.mark.parametrize(
    ("text", "url", "place"),
    [
        ("hf:a/b/c.pth", "https://huggingface.co/a/b/resolve/main/c.pth",
         "huggingface.co/a/b/main/c.pth"),
        ("hf:a/b.x/c/d-e.pth@0f3", "https://huggingface.co/a/b.x/resolve/0f3/c/d-e.pth",
         "huggingface.co/a/b.x/0f3/c/d-e.pth"),
        ("https://h.org/a/b.pth", "https://h.org/a/b.pth", "h.org/a/b.pth"),
        ("hf:a/b", "https://huggingface.co/api/models/a/b", "huggingface.co/a/b/main/@weights"),
        ("hf:a/b@v/1", "https://huggingface.co/api/models/a/b/revision/v%2F1",
         f"huggingface.co/a/b/v_1-{hashlib.sha256(b'hf:a/b@v/1').hexdigest()[:8]}/@weights"),
        ("hf:a/*/c.pth", "https://huggingface.co/api/models?author=a&full=true",
         "huggingface.co/a/@any/c.pth"),
    ],
)  # fmt: skip
def test_references(text, url, place):
    assert parse(text).url == url
    assert cache_path(text) == cache_folder() / place


@pytest.mark.parametrize(
    "text",
    [
        "hf:", "hf:a", "hf:a/", "hf:a/b/", "hf:a/b@", "hf:a/*", "hf:a/*/", "hf:a/*/b/c",
        "hf:a/*/c@v1", "hf:a/b/*", "hf:*/b/c", "hf:a/../c", "hf:a/b/../../c", "hf:a/b/c@",
        "hf:a//c",
        "https://h.org", "https://h.org/", "https://h.org/a/", "https:///a", "ftp://h.org/a",
        "https://me:secret@h.org/a", "https://h.org:x/a", "https://[h/a", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_what_is_no_reference(text):
    with pytest.raises(ConfigError, match="is no reference to a file"):
        parse(text)


def test_a_key_in_a_query_is_kept_nowhere(server):
    url = f"{server.url}?key=SECRET"
    path = fetch(url, limits=QUICK)
    assert path.suffix == ".pth"
    assert server.log[-1].path.endswith("?key=SECRET")
    assert not [name for name in cache_folder().rglob("*") if "SECRET" in str(name)]
    server.replies = [Reply(status=404)]
    with pytest.raises(WeightsError) as caught:
        fetch(f"{server.endpoint}/none.pth?key=SECRET", limits=QUICK)
    assert one_line(caught).startswith(f"{server.endpoint}/none.pth?…: the server answers 404")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://h.org/w.pth?v=1", "https://h.org/w.pth?v=2"),
        ("https://h.org/a%2Fb", "https://h.org/a_b"),
        ("https://h.org/../w.pth", "https://h.org/w.pth"),
        ("https://h.org/%2e%2e/%2e%2e/w.pth", "https://h.org/w.pth"),
        (f"https://h.org/{'a' * 300}.pth", f"https://h.org/{'a' * 301}.pth"),
        ("hf:a/b/c@refs/pr/1", "hf:a/b/c@refs_pr_1"),
        ("hf:a/b", "hf:a/b@v1"),
        ("hf:a/b@refs/pr/1", "hf:a/b@refs_pr_1"),
        ("hf:a/*/c", "hf:a/_/c"),
        ("hf:a/*/c d", "hf:a/*/c_d"),
        ("hf:a/*/main", "https://huggingface.co/a/@any/main"),
        ("hf:a/b", "https://huggingface.co/a/b/main/@weights"),
    ],
)
def test_each_reference_has_its_own_place_in_the_cache(one, other):
    assert cache_path(one) != cache_path(other)
    for path in (cache_path(one), cache_path(other)):
        assert path.resolve().is_relative_to(cache_folder())
        assert all(len(name) < 120 for name in path.relative_to(cache_folder()).parts)


def test_a_file_of_ones_own_is_no_reference():
    assert local_file("models/C:/own.pth") == Path("models/C:/own.pth")


def test_without_a_home_folder(monkeypatch):
    monkeypatch.setenv("VSR_CACHE", "~nobody-of-this-name/x")
    with pytest.raises(ConfigError, match="let VSR_CACHE name one"):
        cache_folder()


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("VSR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/vsr/models"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to ignore
    assert cache_folder() == tmp_path / ".cache/vsr/models"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library/Caches/vsr/models"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_folder() == Path(tmp_path / "Local/vsr/models")
