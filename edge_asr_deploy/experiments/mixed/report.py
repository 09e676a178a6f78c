"""What `fit` chose, as a table for people."""

from __future__ import annotations

from collections import Counter

from rich.table import Table

from edge_asr_deploy.experiments.mixed.fit import MB, Fit


def fit_table(result: Fit) -> Table:
    """Size, cost, how many matrices got which width, and the way on."""
    table = Table(title=result.recipe, caption=f"next: edge-deploy export --recipe {result.recipe}", show_header=False)
    table.add_column("")
    table.add_column("", justify="right", overflow="fold")
    table.add_row("*.onnx, MB", f"{result.size / MB:.2f}")
    table.add_row("smallest possible, MB", f"{result.smallest / MB:.2f}")
    table.add_row("summed KL, nats per token", f"{result.divergence:.4g}")
    counts = Counter(result.bits.values())
    table.add_row("matrices", ", ".join(f"{counts[bits]} at {bits} bits" for bits in sorted(counts)))
    if result.rise is not None:
        table.add_row("rise in WER, points", f"{result.rise:+.2f}")
        table.add_row("judged on", str(result.judged_on))
    if result.searched is not None:
        trials, divergence = result.searched["trials"], result.searched["divergence"]
        table.add_row("best of the search", f"KL {divergence:.4g} after {trials} trials")
    return table
