"""The devices that a bundle is made for: what each multiplies in which form, and how sessions are run there.

One stored set of weights serves all of them: per component a small graph takes the codes either to onnxruntime's
low-bit MatMul (`low-bit`) or, unpacked to int8, to its integer one (`int8`). docs/guide/targets.md has the figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from edge_asr_deploy.errors import UserError
from edge_asr_deploy.runtime.cpu import CpuFeatures
from edge_asr_deploy.runtime.session import SessionSettings

Form = Literal["low-bit", "int8"]


@dataclass(frozen=True)
class SessionOverrides:
    """Session settings that a user chooses; None leaves one to the target."""

    threads: int | None = None
    accuracy_level: int | None = None


@dataclass(frozen=True)
class Target:
    """A kind of device. Forms are by component; None leaves it to the recipe's `activations`.

    `attention`: the products of the encoder's; None leaves it to the recipe.

    `threads` within an operator, at most as many as there are cores; `accuracy_level` and `spinning` as in
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
        """The form of each component; `embedding` is the tied table as the vocabulary head."""
        return {
            "encoder": self.encoder,
            "cross_attention": self.cross_attention,
            "decoder": self.decoder,
            "embedding": self.embedding,
        }

    def settings(self, overrides: SessionOverrides = SessionOverrides()) -> SessionSettings:
        """How sessions are run here; the overrides come before the target's own."""
        level = overrides.accuracy_level
        return SessionSettings(
            threads=overrides.threads or min(self.threads, os.cpu_count() or 1),
            accuracy_level=self.accuracy_level if level is None else level,
            spinning=self.spinning,
        )


GENERIC = Target("generic", "any CPU; the recipe decides what is multiplied how")
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


def named(name: str, thing: str = "--target") -> Target:
    """The target of that name; UserError lists them all."""
    if name not in TARGETS:
        raise UserError(thing, name, f"no such target; choose {', '.join(TARGETS)}")
    return TARGETS[name]


def choose(available: Iterable[str], wanted: str | None, features: CpuFeatures) -> Target:
    """Of the targets in a bundle the `wanted` one, else the one for this CPU, else the one nearest to that in form.

    UserError for a wanted one that is not there.
    """
    names = list(available)
    if wanted is not None:
        target = named(wanted)
        if wanted not in names:
            remedy = f"this bundle is for {', '.join(names)}; choose one of these, or export with --target {wanted}"
            raise UserError("--target", wanted, remedy)
        return target
    ideal = TARGETS[features.target]
    known = [TARGETS[name] for name in names if name in TARGETS]
    if not known:
        raise UserError(
            "bundle", ", ".join(names) or "no targets", f"none is known here; these are: {', '.join(TARGETS)}"
        )
    return min(known, key=lambda target: (target != ideal, _distance(target, ideal)))


def _distance(one: Target, other: Target) -> int:
    """Components whose form differs; what a recipe decides is mostly low-bit."""
    pairs = zip(one.forms.values(), other.forms.values(), strict=True)
    return sum((a or "low-bit") != (b or "low-bit") for a, b in pairs)
