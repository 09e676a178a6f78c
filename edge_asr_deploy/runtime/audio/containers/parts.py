"""The recordings of a file, in order."""

from __future__ import annotations

import re

from edge_asr_deploy.runtime.audio.containers.magic import FLAC, WAVE64, begins, behind_tags
from edge_asr_deploy.runtime.audio.containers.stored import Part, Refused, Stored

_FLAC = re.compile(FLAC)
_ID3 = re.compile(rb"ID3[\x02-\x04]\x00")
# A day of a radio station has some hundred songs, each a stream of its own.
MOST_PARTS = 10_000


def parts(file: Stored) -> list[Part]:
    """The recordings in a file: mostly one that takes all of it, more where files were written behind each other.

    Refused when one is cut short or damaged, as far as headers and checksums say. What is of no known container is one
    part: the decoder says what it is.
    """
    found: list[Part] = []
    position = 0
    while True:
        try:
            part, position = _scan(file, position)
        except Refused as fault:
            if not found:
                raise
            raise Refused(
                f"holds several recordings, and number {len(found) + 1}, at byte {position}, {fault}"
            ) from None
        found.append(part)
        if position >= file.size or not _begins_another(file, position):
            return found
        if len(found) == MOST_PARTS:
            raise Refused(f"holds more than {MOST_PARTS} recordings; cut it")


def _begins_another(file: Stored, position: int) -> bool:
    """Whether a recording begins here, perhaps behind tags."""
    from edge_asr_deploy.runtime.audio.containers import mpeg

    return begins(file, behind_tags(file, position)) or mpeg.is_mpeg(file, position)


def _scan(file: Stored, start: int) -> tuple[Part, int]:
    """The recording that begins at `start`, and where it ends.

    Each kind's module is imported where it is needed: together they take 10 ms, and most users have one kind of file.
    """
    place = behind_tags(file, start)
    head = file.at(place, 16)
    if head[8:12] == b"WAVE" or head == WAVE64:
        from edge_asr_deploy.runtime.audio.containers import riff

        return riff.scan_wave64(file, place) if head == WAVE64 else riff.scan(file, place)
    if head[:4] == b"fLaC":
        follows = file.find(_FLAC, place + 4)
        stop = file.size if follows is None else _tag_before(file, place, follows)
        return Part(place, stop), stop
    if head[:4] == b"OggS":
        from edge_asr_deploy.runtime.audio.containers import ogg

        return ogg.scan(file, place)
    if head[8:11] == b"AIF" or head[:4] in (b".snd", b"dns.", b"caff"):
        from edge_asr_deploy.runtime.audio.containers import aiff

        scan = {b"FORM": aiff.scan_aiff, b"caff": aiff.scan_caf}.get(head[:4], aiff.scan_au)
        return scan(file, place)
    from edge_asr_deploy.runtime.audio.containers import mpeg

    if mpeg.is_mpeg(file, start, may_be_cut=True):
        return mpeg.scan(file, start)
    return Part(start, file.size), file.size


def _tag_before(file: Stored, start: int, position: int) -> int:
    """Where the ID3 tag begins that ends here; the same position without one."""
    place = file.find(_ID3, start, position)
    while place is not None:
        if behind_tags(file, place) == position:
            return place
        place = file.find(_ID3, place + 1, position)
    return position
