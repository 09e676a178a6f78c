"""Small archives that would take memory or time without end, and damaged ones: one line each, soon."""

from __future__ import annotations

import gzip
import random
import resource
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.pack import members as module
from edge_asr_deploy.pack.archive import pack
from edge_asr_deploy.pack.verify import verify
from tests.support.fakes import write_bundle

HUGE = 1 << 62


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header as it stands in a file; `size` may be a lie."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def edited(block: bytes, *changes: tuple[int, bytes]) -> bytes:
    """A header with other bytes at some places and the right sum."""
    changed = bytearray(block)
    for place, content in changes:
        changed[place : place + len(content)] = content
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def record(key: str, value: object) -> bytes:
    text = f" {key}={value}\n"
    length = len(text)
    while len(f"{length}{text}") != length:
        length += 1
    return f"{length}{text}".encode()


def extended(content: bytes, size: int | None = None) -> bytes:
    return header("x", len(content) if size is None else size, tarfile.XHDTYPE) + content + bytes(-len(content) % 512)


def zeros(start: bytes, megabytes: int) -> Iterator[bytes]:
    yield start
    yield from (bytes(1_000_000) for _ in range(megabytes))


def write(path: Path, content: Iterator[bytes]) -> Path:
    with gzip.GzipFile(path, "wb", 6, mtime=0) as file:
        for part in content:
            file.write(part)
    return path


SPARSE = ((386, b"%011o\0" % 0), (398, b"%011o\0" % 0), (483, b"\x80" + HUGE.to_bytes(11, "big")))
END = bytes(1024)
Content = Callable[[], Iterator[bytes]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            lambda: iter([edited(header("pi/x", kind=tarfile.GNUTYPE_SPARSE), *SPARSE), END]),
            "pi/x: is a link or no plain",
        ),
        (
            lambda: iter(
                [extended(record("GNU.sparse.size", HUGE) + record("GNU.sparse.map", "0,0")), header("pi/x"), END]
            ),
            "pi/x: is a link or no plain file",
        ),
        (lambda: zeros(header("x", 500_000_000, tarfile.XHDTYPE), 500), "an extended header of 500000000 bytes"),
        (lambda: zeros(header("pi/x", 20_000_000_000), 300), "unpacks to more than 50 times its size"),
        (lambda: zeros(END, 300), "unpacks to more than 50 times its size"),
        (lambda: iter([header(f"pi/{number}") for number in range(20_000)]), "has more than 10000 members"),
        (lambda: iter([extended(record("a", "b")) for _ in range(20_000)]), "has more than 10000 members"),
        (lambda: iter([edited(header("pi/x"), (124, b"\xff" * 12)), END]), "pi/x: is no plain file"),
        (lambda: iter([extended(record("path", "y" * 60_000 + "/../z")), header("pi/x"), END]), "outside its folder"),
        (lambda: iter([extended(b"0 a=b\n"), header("pi/x"), END]), "broken extended header"),
        (lambda: iter([extended(b"99 a=b\n"), header("pi/x"), END]), "broken extended header"),
        (lambda: iter([extended(record("size", "-5")), header("pi/x"), END]), "broken extended header"),
        (lambda: iter([extended(record("size", "9" * 30)), header("pi/x"), END]), "broken extended header"),
        (lambda: iter([header("pi/x", 5), b"12345" + bytes(507), END, b"hidden"]), "has bytes behind its end"),
        (lambda: iter([header("pi/SHA256SUMS", 20_000_000), bytes(20_000_000), END]), "which is too much for a list"),
        (lambda: iter([header("pi/x", 5, b"L"), b"12345" + bytes(507), END]), "no plain file"),
        (lambda: iter([bytes(512), header("pi/x"), END]), "a block of zeros inside"),
        (lambda: iter([b"no tar" * 200]), "is cut short, damaged or no .tar.gz"),
        (lambda: iter([]), "is cut short, damaged or no .tar.gz"),
    ],
)
def test_what_takes_without_end_is_refused_at_once(tmp_path: Path, content: Content, said: str) -> None:
    archive = write(tmp_path / "pi.tar.gz", content())
    assert archive.stat().st_size < 1_000_000
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(UserError) as caught:
        verify(archive)
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"


def test_the_budgets_are_far_above_what_pack_writes(tmp_path: Path) -> None:
    """The ratio, with the most that a float bundle of zeros could shrink, counts only beyond 50 MB."""
    write_bundle(tmp_path / "w4", files={"zeros.onnx": bytes(20_000_000), "n" * 150 + ".json": b"{}"})
    pack(tmp_path / "w4", tmp_path / "pi.tar.gz", "linux_aarch64", ["3.11"], False, False)
    assert verify(tmp_path / "pi.tar.gz").files > 5
    found = list(module.members(tmp_path / "pi.tar.gz"))
    assert len(found) < module.MOST_MEMBERS / 100
    assert any(len(member.name) > 150 for member in found), "names longer than a header holds"


def test_members_are_those_that_tarfile_reads(tmp_path: Path) -> None:
    write_bundle(tmp_path / "w4", files={"n" * 150 + ".json": b"{}"})
    pack(tmp_path / "w4", tmp_path / "pi.tar.gz", "linux_aarch64", ["3.11"], False, False)
    found = {member.name: b"".join(member.content) for member in module.members(tmp_path / "pi.tar.gz")}
    with tarfile.open(tmp_path / "pi.tar.gz") as opened:
        expected = {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]
    assert found == expected


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_bundle(folder / "w4")
    pack(folder / "w4", folder / "pi.tar.gz", "linux_aarch64", ["3.11"], False, False)
    return folder / "pi.tar.gz"


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_archive_is_one_line(whole: Path, tmp_path: Path, seed: int) -> None:
    """Bytes changed, cut out, doubled or added: in the file, or in the tar with gzip's sum made right again."""
    chance = random.Random(seed)
    inside = seed % 2 == 1
    content = bytearray(gzip.decompress(whole.read_bytes()) if inside else whole.read_bytes())
    original = bytes(content)
    for _ in range(chance.randint(1, 4)):
        # Half of the time in a header at the beginning.
        place = chance.randrange(min(len(content), 4096) if chance.random() < 0.5 else len(content))
        some = chance.randint(1, 600)
        match chance.randrange(4):
            case 0:
                content[place] ^= 1 << chance.randrange(8)
            case 1:
                del content[place : place + some]
            case 2:
                content[place:place] = content[place : place + some]
            case 3:
                content[place:place] = chance.randbytes(some)
    damaged = tmp_path / "pi.tar.gz"
    damaged.write_bytes(gzip.compress(content, 1, mtime=0) if inside else content)
    started = time.process_time()
    try:
        verify(damaged)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        # Only what no reader of the archive sees may differ: a header's owner, time and mode, and gzip's own header.
        assert inside or bytes(content) == original or content[10:] == original[10:]
        contents = {member.name: b"".join(member.content) for member in module.members(damaged)}
        assert contents == {member.name: b"".join(member.content) for member in module.members(whole)}
    assert time.process_time() - started < 5
