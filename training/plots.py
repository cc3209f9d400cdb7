"""The plots of the report, as small SVG files. Draws what it is given; computes nothing."""

import os
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  the backend comes first

# The same file for the same figures.
os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
plt.rcParams.update({
    "svg.hashsalt": "riskgate", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "lines.linewidth": 1.3,
})
COLOURS = ["#1b6ca8", "#d1495b", "#66a182", "#edae49", "#8d5a97", "#6c757d", "#2e4057", "#00798c", "#a44a3f"]


def save(figure: "plt.Figure", path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # matplotlib ends lines with spaces.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def curves(path: Path, title: str, roc: dict[str, list], pr: dict[str, list]) -> None:
    """ROC with a logarithmic false-positive axis beside precision-recall."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.7))
    for colour, (name, (x, y)) in zip(COLOURS * 2, roc.items()):
        left.plot([max(v, 1e-4) for v in x], y, label=name, color=colour)
    left.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 1.01), xlabel="false positives (share of good requests)", ylabel="true positives", title=title)
    left.legend(fontsize=7, loc="lower right")
    for colour, (name, (x, y)) in zip(COLOURS * 2, pr.items()):
        right.plot(x, y, label=name, color=colour)
    right.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="recall", ylabel="precision", title="precision and recall")
    save(figure, path)


def calibration(path: Path, kinds: dict[str, list]) -> None:
    """What was said against what was seen."""
    figure, axes = plt.subplots(1, len(kinds), figsize=(3.1 * len(kinds), 3.1), squeeze=False)
    for axis, (name, bins) in zip(axes[0], kinds.items()):
        axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        axis.scatter([b[0] for b in bins], [b[1] for b in bins], s=[8 + 120 * b[2] ** 0.5 for b in bins], color=COLOURS[0], alpha=0.7)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=name, xlabel="said", ylabel="seen")
    save(figure, path)


def by_history(path: Path, rows: list[dict], others: dict[str, list[dict]], budget: float) -> None:
    """Challenges of good users by the number of their logins."""
    figure, axis = plt.subplots(figsize=(5.6, 3.4))
    for colour, (name, entries) in zip(COLOURS, {"this model": rows, **others}.items()):
        axis.plot(range(len(entries)), [100 * e["value"] for e in entries], marker="o", markersize=3, label=name, color=colour)
    labels = [str(e["from"]) if e["from"] == e["to"] else f"{e['from']}-{e['to']}" if e["to"] < 10**6 else f"{e['from']}+" for e in rows]
    axis.set_xticks(range(len(rows)), labels)
    axis.axhline(100 * budget, color="#999999", linewidth=0.8)
    axis.set(xlabel="confirmed logins before", ylabel="good logins challenged, %", ylim=(0, None))
    axis.legend(fontsize=7)
    save(figure, path)


def lines(path: Path, x_label: str, y_label: str, series: dict[str, tuple[list, list]]) -> None:
    """Plain lines."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4))
    for colour, (name, (x, y)) in zip(COLOURS, series.items()):
        axis.plot(x, y, label=name, color=colour)
    axis.set(xlabel=x_label, ylabel=y_label, ylim=(0, None))
    axis.legend(fontsize=7)
    save(figure, path)


def shapes(path: Path, columns: int, drawn: list[tuple[str, list, list]]) -> None:
    """Every shape of a model."""
    rows = -(-len(drawn) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.0 * columns, 1.5 * rows), squeeze=False)
    for axis in axes.flat:
        axis.tick_params(labelsize=6)
        axis.set_visible(False)
    for axis, (name, x, y) in zip(axes.flat, drawn):
        axis.set_visible(True)
        axis.plot(x, y, color=COLOURS[0])
        axis.set_title(name, fontsize=6.5)
    save(figure, path)
