"""The kinds of device that bundles are made for: how each multiplies weights, and its settings for sessions.

All targets share one stored set of weights. For each component a small graph passes the codes either to onnxruntime's
low-bit MatMul (`low-bit`) or, unpacked to int8, to its integer MatMul (`int8`). Measurements are in
docs/guide/targets.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.cpu import CpuFeatures, usable_cores
from edge_asr_deploy.runtime.session import SessionSettings

Form = Literal["low-bit", "int8"]


@dataclass(frozen=True)
class SessionOverrides:
    """Session settings that a user chooses. None leaves the choice to the target."""

    threads: int | None = None
    accuracy_level: int | None = None


@dataclass(frozen=True)
class Target:
    """A kind of device. Each component has the form in which it is multiplied; None leaves this to the recipe.

    `attention` is the form of the products in the encoder's attention; None leaves it to the recipe. `threads` are
    those within an operator, at most the number of usable cores. `accuracy_level` and `spinning` are as in
    `SessionSettings`.
    """

    name: str
    description: str
    encoder: Form | None = None
    cross_attention: Form | None = None
    decoder: Form | None = None
    embedding: Form | None = None
    attention: Literal["float", "int8"] | None = None
    threads: int = 2
    accuracy_level: int | None = None
    spinning: bool = True

    @property
    def forms(self) -> dict[str, Form | None]:
        """The form of each component. `embedding` stands for the tied table in its role as vocabulary head."""
        return {
            "encoder": self.encoder,
            "cross_attention": self.cross_attention,
            "decoder": self.decoder,
            "embedding": self.embedding,
        }

    def settings(self, overrides: SessionOverrides = SessionOverrides()) -> SessionSettings:
        """The settings for sessions on this target, with the overrides applied.

        Without an override there are no more threads than usable cores, nor than OMP_NUM_THREADS says. With more
        threads than cores none spins: it would take the core from the thread that it waits for.
        """
        level, cores = overrides.accuracy_level, usable_cores()
        threads = overrides.threads or min(self.threads, cores, _wished_threads())
        return SessionSettings(
            threads=threads,
            accuracy_level=self.accuracy_level if level is None else level,
            spinning=self.spinning and threads <= cores,
        )


GENERIC = Target("generic", "any CPU; the recipe decides the form of every product")
TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            GENERIC,
            Target(
                "x86",
                "x86-64 with VNNI: int8 where many rows are multiplied at once, low-bit for single steps",
                encoder="int8",
                cross_attention="int8",
                decoder="low-bit",
                embedding="low-bit",
            ),
            Target(
                "pi4",
                "Raspberry Pi 4 and older (no dot products): int8 throughout; low-bit kernels are slow there",
                encoder="int8",
                cross_attention="int8",
                decoder="int8",
                embedding="int8",
                attention="float",
                threads=4,
            ),
            Target(
                "pi5",
                "Raspberry Pi 5 (dot products): int8 layers, low-bit vocabulary head on 8-bit activations",
                encoder="int8",
                cross_attention="int8",
                decoder="int8",
                embedding="low-bit",
                threads=4,
                accuracy_level=4,
            ),
        )
    }
)


def _wished_threads() -> int:
    """OMP_NUM_THREADS, the variable by which people limit the threads of numeric programs; a list means its first."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(first)) if first.isdecimal() else sys.maxsize


def named(name: str, thing: str = "--target") -> Target:
    """The target of this name. UserError when there is none."""
    if name not in TARGETS:
        raise UserError(thing, name, f"no such target; choose {', '.join(TARGETS)}")
    return TARGETS[name]


def choose(available: Iterable[str], wanted: str | None, features: CpuFeatures) -> Target:
    """Choose a bundle's target: the `wanted` one, else the CPU's, else the one with the most similar forms.

    UserError when the bundle lacks the wanted target.
    """
    names = list(available)
    if wanted is not None:
        target = named(wanted)
        if wanted not in names:
            remedy = f"this bundle is for {', '.join(names)}; choose one of these, or export with --target {wanted}"
            raise UserError("--target", wanted, remedy)
        return target
    ideal = TARGETS[features.target]
    candidates = [TARGETS[name] for name in names if name in TARGETS]
    if not candidates:
        remedy = f"has none of the targets that this version supports; export it for one of {', '.join(TARGETS)}"
        raise UserError("bundle", ", ".join(names) or "no targets", remedy)
    return min(candidates, key=lambda target: (target != ideal, _distance(target, ideal)))


def _distance(target: Target, ideal: Target) -> int:
    """How many components have different forms. A form left to the recipe counts as low-bit, the usual choice."""
    pairs = zip(target.forms.values(), ideal.forms.values(), strict=True)
    return sum((form or "low-bit") != (ideal_form or "low-bit") for form, ideal_form in pairs)
