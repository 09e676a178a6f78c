"""How the recordings that libsndfile reads begin."""

from __future__ import annotations

import re
import struct

from edge_asr_deploy.runtime.audio.containers.stored import Stored

# Wave64 names its chunks by 16 bytes, of which the first four are those of a WAV.
WAVE64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
# A FLAC begins with its STREAMINFO of 34 bytes; the highest bit says that no other block follows.
FLAC = rb"fLaC[\x00\x80]\x00\x00\x22"
WAV = rb"(?:RIFF|RIFX|RF64|BW64).{4}WAVE"
BEGINNING = re.compile(
    rb"|".join(
        (WAV, re.escape(WAVE64), rb"FORM.{4}AIF[FC]", rb"\.snd|dns\.", FLAC, rb"OggS\x00\x02", rb"caff\x00\x01")
    ),
    re.DOTALL,
)
# Tags that players write behind or between recordings: the name, where its length is, and how to read it.
ID3V1_BYTES, ID3V2_HEADER, APE_HEADER = 128, 10, 32


def begins(file: Stored, position: int) -> bool:
    """Whether a recording of a known container (all but MP3, which has none) begins here."""
    return BEGINNING.match(file.at(position, 16)) is not None


def behind_tags(file: Stored, position: int) -> int:
    """The end of the ID3v1, ID3v2 and APE tags that begin here; the same position where there is none."""
    while True:
        head = file.at(position, APE_HEADER)
        if head[:3] == b"ID3" and len(head) >= ID3V2_HEADER:
            # Four bytes of seven bits each.
            content = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            position += ID3V2_HEADER + content
        elif head[:3] == b"TAG":
            position += ID3V1_BYTES
        elif head[:8] == b"APETAGEX" and len(head) == APE_HEADER:
            # The length counts what follows the first header.
            position += APE_HEADER + struct.unpack("<I", head[12:16])[0]
        else:
            return position
