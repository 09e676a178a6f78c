"""What `fit` chose, as a table for people."""

from __future__ import annotations

from collections import Counter

from edge_asr_deploy.experiments.mixed.fit import MB, Fit
from edge_asr_deploy.harness.layout import FittedTable, plain


def fit_table(result: Fit) -> FittedTable:
    """Size, cost, how many matrices got which width, and the way on."""
    table = FittedTable(
        title=result.recipe, caption=f"next: edge-deploy export --recipe {result.recipe}", show_header=False
    )
    table.head("")
    table.head("", right=True)
    table.row("*.onnx, MB", f"{result.size / MB:.2f}")
    table.row("smallest possible, MB", f"{result.smallest / MB:.2f}")
    table.row("summed KL, nats per token", f"{plain(result.divergence, 4)}")
    counts = Counter(result.bits.values())
    table.row("matrices", ", ".join(f"{counts[bits]} at {bits} bits" for bits in sorted(counts)))
    if result.rise is not None:
        table.row("rise in WER, points", f"{result.rise:+.2f}")
        table.row("judged on", str(result.judged_on))
    if result.searched is not None:
        trials, divergence = result.searched["trials"], result.searched["divergence"]
        table.row("best of the search", f"KL {plain(divergence, 4)} after {trials} trials")
    return table
