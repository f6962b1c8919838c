"""Downloads from a real server, honest and hostile, and archives of every evil kind."""

import gzip
import http.server
import io
import platform
import stat
import struct
import tarfile
import threading
import time
import tracemalloc
import zipfile
from dataclasses import replace

import pytest
from pictures import make_btad, make_mvtec, make_visa, picture, tar_of, zip_of

from decodiff.data import download as downloading
from decodiff.data.archives import MAX_RATIO, RECORD, is_unpacked, unpack
from decodiff.data.registry import REGISTRY, Counts
from decodiff.data.rows import read_rows
from decodiff.errors import InputError
from decodiff.files import sha256
from decodiff.stages.fetch import fetch


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on 127.0.0.1, each file also under faults: ``/<fault>/<file>``. Remembers what was asked."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []

    def url(self, name, fault="plain"):
        return f"http://127.0.0.1:{self.server_port}/{fault}/{name}"

    def tries(self, fault):
        return sum(asked_fault == fault for asked_fault, _ in self.asked)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, fault, name = self.path.split("/")
        wanted = self.headers.get("Range")
        self.server.asked.append((fault, wanted))
        content = (self.server.folder / name).read_bytes()
        if fault == "gone":
            return self.send_error(404)
        if fault == "flaky" and self.server.tries(fault) <= 2:
            return self.send_error(500)
        if fault == "other":
            content = content[::-1]
        if fault == "longer":
            content += b"more"
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and fault != "no-range" else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.send_body(fault, content[start:], len(content))

    def send_body(self, fault, rest, total):
        first = self.server.tries(fault) == 1
        if fault == "cut" or (fault in ("once", "no-range") and first):
            self.wfile.write(rest[: total * 2 // 5 if first else 0])
            self.close_connection = True
        elif fault == "stall" and first:
            self.wfile.write(rest[: total * 2 // 5])
            self.wfile.flush()
            time.sleep(2)
            self.close_connection = True
        elif fault == "slow":
            for position in range(0, len(rest), len(rest) // 8):
                self.wfile.write(rest[position : position + len(rest) // 8])
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.wfile.write(rest)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(downloading, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(downloading, "STALL_SECONDS", 0.5)
    (tmp_path / "served").mkdir()
    with Server(tmp_path / "served") as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


STRUCTURES = {
    "mvtec_ad": (make_mvtec, lambda root, path: tar_of(root, path, "w:xz"), "small.tar.xz", Counts(30, 30, 15)),
    "visa": (make_visa, lambda root, path: tar_of(root, path, "w"), "small.tar", Counts(12, 12, 12)),
    "btad": (make_btad, zip_of, "small.zip", Counts(6, 6, 3)),
}


def published(tmp_path, server, monkeypatch, name="mvtec_ad", faults=("plain",), size=(64, 64)):
    """A small archive in a data set's true structure takes the place of the published one; its manifest's path to be."""
    make, pack, file, counts = STRUCTURES[name]
    if make is make_mvtec:
        make(tmp_path / "source", REGISTRY[name].categories, size=size)
    else:
        make(tmp_path / "source", REGISTRY[name].categories)
    archive = pack(tmp_path / "source", tmp_path / "served" / file)
    changes = {"mirrors": tuple(server.url(file, fault) for fault in faults), "sha256": sha256(archive), "counts": counts}
    monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], size=archive.stat().st_size, **changes))
    return tmp_path / "data" / name / "manifest.csv"


def left_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", STRUCTURES)
def test_each_downloadable_set_becomes_a_manifest(tmp_path, server, monkeypatch, name):
    manifest = published(tmp_path, server, monkeypatch, name)
    fetch(name, None, None, "all", manifest)
    counts = REGISTRY[name].counts
    rows = read_rows(manifest)
    assert len(rows) == counts.train + counts.test_normal + counts.test_anomalous
    assert all((manifest.parent / row.image).is_file() for row in rows)
    assert tuple(dict.fromkeys(row.category for row in rows)) == REGISTRY[name].categories
    # once more: neither downloaded nor unpacked again
    before = (manifest.parent / "images" / RECORD).stat().st_mtime_ns
    fetch(name, None, None, "all", manifest)
    assert len(server.asked) == 1 and (manifest.parent / "images" / RECORD).stat().st_mtime_ns == before


@pytest.mark.parametrize("fault", ["flaky", "once", "no-range", "stall", "slow"])
def test_a_fault_that_passes_ends_in_the_right_data(tmp_path, server, monkeypatch, fault):
    manifest = published(tmp_path, server, monkeypatch, faults=[fault])
    fetch("mvtec_ad", None, None, "all", manifest)
    assert len(read_rows(manifest)) == 75
    assert [name for name in left_in(manifest.parent / "archive")] == ["small.tar.xz"]
    ranges = [wanted for _, wanted in server.asked]
    if fault in ("once", "stall"):
        assert len(ranges) == 2 and ranges[0] is None and ranges[1] is not None, "what had come was kept"
    elif fault == "flaky":
        assert len(ranges) == 3


@pytest.mark.parametrize(
    ("fault", "expected", "tries"),
    [
        ("gone", "answers 404", 1),
        ("other", "serves another file than expected .sha256 differs.", 1),
        ("longer", "serves another file than expected .[0-9]+ bytes instead of [0-9]+.", 1),
        ("cut", "cannot be reached .(ChunkedEncodingError|ConnectionError).", None),
    ],
)
def test_a_fault_that_stays_is_one_line_and_the_next_mirror_is_taken(tmp_path, server, monkeypatch, fault, expected, tries):
    manifest = published(tmp_path, server, monkeypatch, faults=[fault])
    with pytest.raises(InputError, match=f"{fault}/small.tar.xz: {expected}; get it from .*data.mvtec_ad.source") as error:
        fetch("mvtec_ad", None, None, "all", manifest)
    assert "\n" not in str(error.value)
    # only what a later run can go on with
    assert left_in(manifest.parent) == ([] if fault != "cut" else ["archive/.small.tar.xz.part"])
    assert tries is None or server.tries(fault) == tries
    published_again = replace(REGISTRY["mvtec_ad"], mirrors=(*REGISTRY["mvtec_ad"].mirrors, server.url("small.tar.xz")))
    monkeypatch.setitem(REGISTRY, "mvtec_ad", published_again)
    fetch("mvtec_ad", None, None, "all", manifest)
    assert len(read_rows(manifest)) == 75
    if fault == "cut":
        assert server.asked[-1][1] is not None, "the second mirror went on where the first broke off"


def test_a_later_run_goes_on_and_a_wrong_beginning_is_thrown_away(tmp_path, server, monkeypatch):
    manifest = published(tmp_path, server, monkeypatch)
    partial = manifest.parent / "archive" / ".small.tar.xz.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"the beginning of something else" * 100)
    fetch("mvtec_ad", None, None, "all", manifest)
    assert [wanted is None for _, wanted in server.asked] == [False, True]
    assert len(read_rows(manifest)) == 75


def test_a_host_that_cannot_be_reached_is_one_clear_line(tmp_path, server, monkeypatch):
    manifest = published(tmp_path, server, monkeypatch)
    # a port on which nothing listens
    monkeypatch.setitem(REGISTRY, "mvtec_ad", replace(REGISTRY["mvtec_ad"], mirrors=("http://127.0.0.1:9/bolts.tar",)))
    with pytest.raises(InputError, match="cannot be reached .ConnectionError.; get it from") as error:
        fetch("mvtec_ad", None, None, "all", manifest)
    assert "\n" not in str(error.value)


def test_too_little_room_is_said_before_anything_is_asked(tmp_path, server, monkeypatch):
    manifest = published(tmp_path, server, monkeypatch)
    monkeypatch.setitem(REGISTRY, "mvtec_ad", replace(REGISTRY["mvtec_ad"], size=10**18))
    with pytest.raises(InputError, match="archive: .* GB free, 1000000000.0 GB needed"):
        fetch("mvtec_ad", None, None, "all", manifest)
    assert not server.asked


# ---- archives


def test_an_archive_the_user_has_must_be_the_published_one(tmp_path, server, monkeypatch):
    manifest = published(tmp_path, server, monkeypatch)
    archive = tmp_path / "served" / "small.tar.xz"
    fetch("mvtec_ad", str(archive), None, "all", manifest)
    assert len(read_rows(manifest)) == 75 and not server.asked
    (tmp_path / "source" / "bottle" / "extra.txt").write_text("not published")
    other = tar_of(tmp_path / "source", tmp_path / "other.tar.gz")
    with pytest.raises(InputError, match="other.tar.gz: not the published archive of MVTec AD .sha256 differs."):
        fetch("mvtec_ad", str(other), None, "all", manifest)
    fetch("mine", str(other), "mvtec_ad", "all", tmp_path / "data" / "mine" / "manifest.csv")


def member(name, kind=tarfile.REGTYPE, content=b"evil", target=""):
    item = tarfile.TarInfo(name)
    item.type, item.linkname, item.size = kind, target, len(content) if kind == tarfile.REGTYPE else 0
    return item, io.BytesIO(content)


def told(**words):
    """A member that extended headers speak of."""
    item, content = member("x")
    item.pax_headers = words
    return item, content


EVIL_TARS = {
    "dots": (member("bolt/../../outside.txt"), "would leave the folder"),
    "absolute": (member("/tmp/outside.txt"), "would leave the folder"),
    "backslashes": (member("..\\outside.txt"), "would leave the folder"),
    "symbolic link": (member("bolt/link", tarfile.SYMTYPE, target="/etc/passwd"), "'bolt/link' is a link"),
    "hard link": (member("bolt/link", tarfile.LNKTYPE, target="../../outside"), "'bolt/link' is a link"),
    "harmless link": (member("bolt/link", tarfile.SYMTYPE, target="train"), "'bolt/link' is a link"),
    "device": (member("bolt/null", tarfile.CHRTYPE), "'bolt/null' is a device"),
    "pipe": (member("bolt/pipe", tarfile.FIFOTYPE), "'bolt/pipe' is a device"),
    "bomb": (member("bolt/zeros", content=bytes(20_000_000)), f"more than {MAX_RATIO} times its own size"),
    "nul": (told(path="a\0../../outside.txt"), "would leave the folder"),
    "told path": (told(path="../../outside.txt"), "would leave the folder"),
    "told size below zero": (told(size="-5000"), "'x' has 0 bytes and states -5,000"),
    "told size beyond all": (told(size="9" * 20), f"more than {MAX_RATIO} times its own size"),
    "sparse": (member("x", tarfile.GNUTYPE_SPARSE, content=b""), "a sparse file"),
    "told sparse": (told(**{"GNU.sparse.map": "0,1,3999999,0", "GNU.sparse.size": "4000000"}), "a sparse file"),
    "told sparse elsewhere": (
        told(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../../outside.txt"}),
        "a sparse file",
    ),
    "long name": (member("x" * 300), "'x+[.][.][.]x+': File name too long"),
    "no name": (member("."), "'.': Is a directory"),
    "folder of its own record": (member(f"{RECORD}/x"), "Is a directory|cannot be unpacked"),
    "unknown kind": (member("x", b"Z"), "'x' is a device"),
    "share": (member("\\\\host\\x"), "would leave the folder"),
}


def zip_member(name, mode=0, content=b"evil"):
    item = zipfile.ZipInfo(name)
    item.external_attr = mode << 16
    item.compress_type = zipfile.ZIP_DEFLATED
    return item, content


EVIL_ZIPS = {
    "dots": (zip_member("bolt/../../outside.txt"), "would leave the folder"),
    "absolute": (zip_member("/tmp/outside.txt"), "would leave the folder"),
    "drive": (zip_member("C:/outside.txt"), "would leave the folder"),
    "link": (zip_member("bolt/link", stat.S_IFLNK | 0o777, b"/etc/passwd"), "'bolt/link' is a link"),
    "device": (zip_member("bolt/null", stat.S_IFCHR | 0o666, b""), "'bolt/null' is a device"),
    "bomb": (zip_member("bolt/zeros", content=bytes(20_000_000)), f"more than {MAX_RATIO} times its own size"),
}


# a second member that cannot be beside the first
EXCLUSIVE = {
    "a file below a file": (("x", "x/y"), "'x/y': (File exists|Not a directory)"),
    "a folder of a file's name": (("x", "x/"), "'x/?': File exists"),
    "a file of a folder's name": (("x/y", "x"), "'x': Is a directory"),
}


@pytest.mark.parametrize("kind", EXCLUSIVE)
@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_members_that_exclude_each_other_are_refused_whole(tmp_path, kind, suffix):
    names, expected = EXCLUSIVE[kind]
    with tarfile.open(tmp_path / "evil.tar", "w") as tar, zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        for name in names:
            tar.addfile(*member(name, tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE))
            packed.writestr(name, b"")
    refused(tmp_path / f"evil.{suffix}", tmp_path, expected)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("place", ["first", "later"])
def test_words_of_a_tar_that_fill_memory_are_refused_unread(tmp_path, kind, place):
    item, _ = member("x")
    item.type, item.size = kind, 2_000_000_000
    before, content = member("a", content=b"a" * 600_000)
    with gzip.open(tmp_path / "evil.tar.gz", "wb") as stream:
        if place == "later":
            stream.write(before.tobuf() + content.read() + bytes(-before.size % 512))
        stream.write(item.tobuf(tarfile.GNU_FORMAT) + bytes(50_000_000))
    tracemalloc.start()
    try:
        refused(tmp_path / "evil.tar.gz", tmp_path, "a header of 2,000,000,000 bytes")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_chain_of_headers_ends(tmp_path):
    item, content = told(comment="x")
    headers = item.tobuf(tarfile.PAX_FORMAT)[:1024]
    (tmp_path / "evil.tar").write_bytes(headers * 5000)
    refused(tmp_path / "evil.tar", tmp_path, "cannot be unpacked")


@pytest.mark.parametrize("content", [bytes(10_240), b"PK\5\6" + bytes(18), b""], ids=["tar", "zip", "nothing"])
def test_an_archive_without_a_file_is_refused(tmp_path, content):
    (tmp_path / "empty.bin").write_bytes(content)
    refused(tmp_path / "empty.bin", tmp_path, "it holds no file|not a whole tar or zip archive")


def lying(name, entries, offset, value, kind="<I"):
    """A zip whose list says something else of the member ``name``, ``offset`` bytes into its entry."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in entries:
            archive.writestr(*entry)
    content = bytearray(stream.getvalue())
    at = content.rfind(name.encode()) - 46
    assert content[at : at + 4] == b"PK\1\2"
    struct.pack_into(kind, content, at + offset, value)
    return bytes(content)


SOME = ("a.bin", bytes(range(256)) * 40)
LYING_ZIPS = {
    "smaller than it is": (("big", bytes(5_000_000)), 24, 10, "Bad CRC-32|not a whole|states"),
    "larger than it is": (("big", b"12"), 24, 3000, "'big' has 2 bytes and states 3,000"),
    "far larger than it is": (("big", b"12"), 24, 2**32 - 2, f"more than {MAX_RATIO} times its own size"),
    "another place": (("big", b"12"), 42, 2**31, "not a whole tar or zip archive|cannot be unpacked"),
    "without a name": (("big", b"12"), 28, 3 << 16, "cannot be unpacked"),
    "encrypted": (("big", b"12"), 8, 1, "encrypted"),
    "unknown compression": (("big", b"12"), 10, 99, "compression method is not supported|cannot be unpacked"),
}


@pytest.mark.parametrize("kind", LYING_ZIPS)
def test_a_zip_that_lies_is_refused_whole(tmp_path, kind):
    entry, offset, value, expected = LYING_ZIPS[kind]
    pack = "<H" if offset in (8, 10) else "<I"
    (tmp_path / "evil.zip").write_bytes(lying("big", [SOME, entry], offset, value, pack))
    refused(tmp_path / "evil.zip", tmp_path, expected)


def test_many_names_for_one_content_are_a_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0", b"".join(index.to_bytes(2, "big") for index in range(20_000)))
        (first,) = archive.infolist()
        for index in range(1, 400):
            other = zipfile.ZipInfo(str(index))
            for name in ("CRC", "compress_size", "file_size", "header_offset", "compress_type"):
                setattr(other, name, getattr(first, name))
            archive.filelist.append(other)
    refused(tmp_path / "evil.zip", tmp_path, f"more than {MAX_RATIO} times its own size|not a whole tar or zip archive")


def test_odd_but_harmless_members_stay_inside(tmp_path):
    """Names of any characters, archives within, rights, and a record of its own, which is not believed."""
    names = ["X", "x", "é", "e\u0301", "x\u202egnp.exe", "$(touch x)", "-rf", "in.tar.gz", RECORD]
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        for name in names:
            item, content = member(name, content=b"{}")
            item.mode = 0o6777
            archive.addfile(item, content)
    unpack(tmp_path / "odd.tar", tmp_path / "data" / "images")
    assert {path.name for path in (tmp_path / "data" / "images").iterdir()} == set(names)
    assert {path.name for path in tmp_path.iterdir()} == {"odd.tar", "data"}
    assert all(path.stat().st_mode & 0o7000 == 0 for path in (tmp_path / "data" / "images").iterdir())
    assert is_unpacked(tmp_path / "data" / "images", sha256(tmp_path / "odd.tar"))


def refused(archive, tmp_path, expected):
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=f"{archive.name}: .*({expected})") as error:
        unpack(archive, tmp_path / "data" / "images")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "data").iterdir()) == [], "nothing of it is left"
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "data" / "outside.txt").exists()


@pytest.mark.parametrize("kind", EVIL_TARS)
def test_an_evil_tar_is_refused_whole(tmp_path, kind):
    extra, expected = EVIL_TARS[kind]
    refused(tar_of(make_mvtec(tmp_path / "source"), tmp_path / "evil.tar.gz", extra=extra), tmp_path, expected)


@pytest.mark.parametrize("kind", EVIL_ZIPS)
def test_an_evil_zip_is_refused_whole(tmp_path, kind):
    extra, expected = EVIL_ZIPS[kind]
    refused(zip_of(make_mvtec(tmp_path / "source"), tmp_path / "evil.zip", extra=extra), tmp_path, expected)


def test_many_empty_files_are_a_bomb_too(tmp_path):
    with tarfile.open(tmp_path / "evil.tar.xz", "w:xz") as archive:
        for index in range(20_000):
            archive.addfile(*member(f"{index}", content=b""))
    refused(tmp_path / "evil.tar.xz", tmp_path, f"more than {MAX_RATIO} times its own size")


@pytest.mark.parametrize(("file", "pack"), [("cut.tar.gz", tar_of), ("cut.zip", zip_of)])
def test_a_cut_off_archive_is_refused_whole(tmp_path, file, pack):
    archive = pack(make_mvtec(tmp_path / "source", size=(64, 64)), tmp_path / file)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size * 2 // 5])
    refused(archive, tmp_path, "(cannot be unpacked|not a whole tar or zip archive)")


def test_an_interrupted_extraction_starts_over(tmp_path):
    archive = tar_of(make_mvtec(tmp_path / "source"), tmp_path / "bolts.tar.gz")
    images = tmp_path / "data" / "images"
    unpack(archive, images)
    # a process that is gone left its work behind
    stale = images.with_name(f".images.{platform.node()}-999999999.tmp")
    picture(stale / "bolt" / "half.png")
    (images / "bolt" / "train" / "good" / "000.png").unlink()
    unpack(archive, images)
    assert (images / "bolt" / "train" / "good" / "000.png").is_file(), "what was lost is unpacked again"
    assert [path.name for path in images.parent.iterdir()] == ["images"]
