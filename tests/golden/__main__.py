"""`python -m tests.golden`: write the golden record anew; numbers of other kinds of processor stay."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.golden import bundles, commands
from tests.golden.record import PATH


def main() -> None:
    """Compute everything and write it."""
    before: dict[str, Any] = json.loads(PATH.read_text())["bundles"] if PATH.exists() else {}
    codes = {}
    for line in commands.BAD_INPUTS:
        with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGE_ASR_CACHE", f"{scratch}/cache")
            codes[line] = commands.exit_code(line, Path(scratch), patch)
    found: dict[str, Any] = {}
    for name, recipe in {**bundles.shipped_recipes(), **bundles.sweep_recipes()}.items():
        print(name, flush=True)
        if bundles.is_exported(name):
            record = bundles.bundle_record(recipe)
        elif not bundles.is_rounded(name):
            continue
        else:
            record = {"numbers": {"weights": bundles.weights_record(bundles.quantized(recipe, exported=False)[1])}}
        known = before.get(name, {}).get("numbers", {})
        found[name] = {**record, "numbers": {**known, bundles.machine(): record["numbers"]}}
    document = {
        "recipes": bundles.recipes_record(),
        "options": commands.options_record(),
        "exit codes": codes,
        "bundles": found,
    }
    PATH.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
