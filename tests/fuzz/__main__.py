"""`python -m tests.fuzz --minutes 10 --work exported/fuzz`: new cases of every target in turn, until the time is over.

It goes on where it was: the number of the next case and all findings are kept in the work folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz.running import Outcome, run
from tests.fuzz.targets import TARGETS, Target


def outcome_of(target: Target, name: str, seed: int, number: int) -> Outcome:
    """Run one case, which the target's name, the seed and the number determine."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        return run(target.case(Random(f"{name} {seed} {number}")), Path(folder))


def main() -> None:
    """Run cases, print what was found, and end with 1 when something was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="default: all")
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="at most so many of each target")
    parser.add_argument("--work", type=Path, default=Path("exported/fuzz"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    state = options.work / f"next-{options.seed}.json"
    done: dict[str, int] = json.loads(state.read_text()) if state.exists() else {}
    deadline = time.monotonic() + 60 * options.minutes
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-base-") as base:
        targets: dict[str, Target] = {}
        for name in options.target or TARGETS:
            targets[name] = TARGETS[name]()
            (Path(base) / name).mkdir()
            targets[name].prepare(Path(base) / name)
        while time.monotonic() < deadline and any(done.get(name, 0) < options.cases for name in targets):
            for name, target in targets.items():
                number = done.get(name, 0)
                if number >= options.cases:
                    continue
                found = outcome_of(target, name, options.seed, number)
                counts[name, found.kind] += 1
                done[name] = number + 1
                if found.is_finding:
                    print(f"{name} {options.seed} {number}: {found.kind}: {found.said.strip()[-200:]}", flush=True)
                    entry = {"target": name, "seed": options.seed, "number": number, "kind": found.kind}
                    with (options.work / "findings.jsonl").open("a") as file:
                        file.write(json.dumps({**entry, "said": found.said}) + "\n")
            state.write_text(json.dumps(done))
    for (name, kind), number in sorted(counts.items()):
        print(f"{name:16} {kind:10} {number}")
    sys.exit(any(Outcome(kind).is_finding for _, kind in counts))


if __name__ == "__main__":
    main()
