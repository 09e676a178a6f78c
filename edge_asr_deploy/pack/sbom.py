"""What a pack is made of, for programs that compare it with lists of faults: CycloneDX 1.6 as JSON.

https://cyclonedx.org/docs/1.6/json/. Without serial number and time, so that equal packs stay equal byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edge_asr_deploy
from edge_asr_deploy.bundle.manifest import Manifest, bundle_hash
from edge_asr_deploy.pack.requirements import Pin
from edge_asr_deploy.pack.wheel import DISTRIBUTION

SBOM = "sbom.cdx.json"


def bill_of_materials(manifest: Manifest, pins: Sequence[Pin], wheels: Sequence[Path]) -> bytes:
    """The document: the bundle and the weights that it was made from, this package, and every package of the list.

    `wheels` are the files in the pack. A package without one there comes from the board's index: its component has the
    hashes of all wheels that may be installed.
    """
    digests = {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}
    own = Pin(DISTRIBUTION, edge_asr_deploy.__version__, ())
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _bundle(manifest)},
        "components": [_package(pin, digests) for pin in (own, *pins)],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def _bundle(manifest: Manifest) -> dict[str, Any]:
    kind, source = "machine-learning-model", manifest.model
    weights = {"type": kind, "name": source.name, "description": source.origin, "hashes": _hashes([source.sha256])}
    return {
        "type": kind,
        "bom-ref": "bundle",
        "name": manifest.name,
        "version": manifest.created,
        "hashes": _hashes([bundle_hash(manifest)]),
        "pedigree": {"ancestors": [weights], "notes": f"quantized by the recipe {manifest.recipe.get('name', '')}"},
    }


def _package(pin: Pin, digests: Mapping[str, str]) -> dict[str, Any]:
    start = f"{pin.name}-{pin.version}-".replace("-", "_").lower()
    packed = [digest for name, digest in digests.items() if name.replace("-", "_").lower().startswith(start)]
    purl = f"pkg:pypi/{pin.name}@{pin.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": pin.name,
        "version": pin.version,
        "purl": purl,
        "hashes": _hashes(packed or pin.sha256s),
    }


def _hashes(digests: Sequence[str]) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest} for digest in sorted(digests)]
