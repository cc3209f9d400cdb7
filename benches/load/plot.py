"""Draws what the load bench has measured (`target/bench/load.json`) as SVG.

    python plot.py load.json OUT.svg

CPU per request by gateway for each traffic, with the least and the greatest of the rounds; the parts of a bar are the
threads that a request paid for.
"""

import json
import sys

import matplotlib

matplotlib.use("svg")
# The same picture for the same numbers.
matplotlib.rcParams["svg.hashsalt"] = "riskgate"
import matplotlib.pyplot as plt

# What does the work of a request, what works beside it, and who is asked.
OWN = {"riskgate", "bare", "nginx", "haproxy", "wrk:worker_0"}
PALETTE = {"worker": "#2b6cb0", "beside it": "#90cdf4", "who is asked": "#dd6b20"}


def parts(variant):
    found = dict.fromkeys(PALETTE, 0.0)
    for thread, micros in variant["cpu_micros_per_request_by_thread"].items():
        if thread in OWN:
            found["worker"] += micros
        elif thread.startswith("load-") or thread.startswith("python"):
            found["who is asked"] += micros
        else:
            found["beside it"] += micros
    return found


def draw(report, out):
    variants = [variant for variant in report["variants"] if variant["gateway"] != "direct"]
    rows = []
    for traffic in dict.fromkeys(variant["traffic"] for variant in variants):
        rows.extend(variant for variant in variants if variant["traffic"] == traffic)
    figure, axes = plt.subplots(figsize=(8, 0.32 * len(rows) + 1.2), layout="constrained")
    for place, variant in enumerate(reversed(rows)):
        left = 0.0
        for part, micros in parts(variant).items():
            axes.barh(place, micros, left=left, color=PALETTE[part], height=0.7)
            left += micros
        spread = variant["cpu_micros_per_request"]
        axes.plot([spread["min"], spread["max"]], [place, place], color="black", linewidth=1)
        axes.text(spread["max"] + 4, place, f"{spread['median']:.0f}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels(
        [f"{variant['traffic']} / {variant['gateway']}" for variant in reversed(rows)], fontsize=8
    )
    axes.set_xlabel("CPU µs per request (bar: median; line: least to greatest round)")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in PALETTE.values()]
    axes.legend(handles, PALETTE, loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1, y=0.01)
    figure.savefig(out, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2])
