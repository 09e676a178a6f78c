"""The length of samples where the header and the file disagree."""

from __future__ import annotations

from edge_asr_deploy.runtime.audio.containers.stored import Refused

# Programs that write to a pipe do not know the length: ffmpeg writes 2^32-1, sox 0x7ffff000 (AIFF: 0x7f000000), arecord
# 2^31, some of them less their header; in fields of 64 bits it is 2^63 or 2^64-1.
UNKNOWN_LENGTHS = (range(0x7EFFF000, 0x80000001), range(0xFFFF0000, 0x100000000), range(1 << 62, 1 << 64))
# A program that counts its own header, or rounds up, promises a header too much: mostly 44 bytes, seldom some hundred.
LARGEST_SLACK = 512
# What stands behind the last chunk is a program's junk up to here, and samples beyond it.
LARGEST_JUNK = 4096
# Headers hold a few chunks, and broken or hostile files millions, which take libsndfile many seconds.
MOST_CHUNKS = 1000
TOO_MANY_CHUNKS = f"has more than {MOST_CHUNKS} chunks in its header; convert it to WAV (ffmpeg -i FILE out.wav)"


def is_unknown(promised: int) -> bool:
    """Whether a length in a header says that the length is not known."""
    return any(promised in lengths for lengths in UNKNOWN_LENGTHS)


def slack(header: int) -> int:
    """By how many bytes a length may be wrong where the header has so many."""
    return min(header, LARGEST_SLACK)


def length_of(promised: int, there: int, header: int, is_whole: bool = False) -> tuple[int, str]:
    """How many bytes of samples there are, and a note where they are not as many as the header promises.

    `header` is the header's own length, `is_whole` says that the file is as long as another field of the header says.
    A recorder that was switched off leaves a promise of 0. Refused where samples are missing.
    """
    if not promised and there:
        return there, f"its header promises no samples; the {there} bytes behind it were read"
    missing = promised - there
    if missing <= 0:
        return promised, ""
    if is_whole or missing <= slack(header):
        return (
            there,
            f"its header promises {missing} byte{'s' * (missing > 1)} more than there are; what is there was read",
        )
    raise Refused(f"is cut short ({missing} byte{' is' if missing == 1 else 's are'} missing); copy or record it again")
