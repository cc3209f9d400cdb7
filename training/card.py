"""conf/model/CARD.md, written from the figures of a run."""

import additive
import export_model
import export_starter
import report
import train
from replay import KINDS

HEAD = """# Model card: risk models {version}

Written by training/card.py from the run that trained the models; do not edit.

**What they are.** One model for each kind of request: logins, tokens of users' apps, service accounts. Each is additive:
every feature of `features.toml` that belongs to the kind contributes log-odds by a piecewise-linear shape, the
contributions and a bias add up to the logit, and the score is `round(100 p)`. Every score can therefore be explained
exactly, and more of a risky thing never lowers it: the directions of `features.toml` were bounds of the fit, and exporter
and gateway both check them.

**What they were trained on.** Simulated traffic and nothing else (`training/traffic/`, seeds {train}, {users} users and
{days} days each), computed into features by the gateway's own code, with what the gateway had learnt under the model of the
round before. {rows} How good they are on other simulated traffic, beside fixed rules and the literature's baseline, is in
[the report](../../training/REPORT.md); what simulated traffic cannot show is said there too, and it is a lot.

**What the probability means.** It is calibrated to a stated mix of attackers (`[weight]` in `training/trainer.toml`), in
which each kind of attack has its share of requests whatever volume a campaign sends. It is not the share of attacks in the
own traffic; look at the scores in `mode = "monitor"` first.

**What they do not do.** They do not recognise an attacker who sits on the victim's network with a copied browser and a
stolen device cookie. They know nothing of an account before its first confirmed login: such logins stay below medium, so
that new users are not challenged, and policy has to cover them where that is not acceptable.

**Weights that were not learnt.** Simulated attackers cannot teach everything. `[[floor]]` in `training/trainer.toml` lists
what weighs at least so much whatever the data say, with the reason: the rarity of network, country and browser, foreign
device cookies, programs at doors for browsers, Tor, impossible travel, sudden rates of service accounts. `[[ceiling]]` lists
what weighs at most so much: for tokens a new address, the pace, the size of the network.

**Privacy and fairness.** No raw identifier enters; features are counts, ratios and distances. The report shows how often
each group of good users is challenged.

**Input.** A missing value (NaN) is replaced by the feature's `cold_start`. Contributions are relative to the mean of
legitimate requests of the kind.

## Figures

"""

FOOT = """
## How to make them again

`make train` (some half an hour) generates the traffic, trains, exports and writes the report. `make train-starter` writes
the model whose weights were set by hand, which these replace, to `tests/data/models/starter/`; `[model] dir` can name it.
"""


def text(trained: dict[str, train.Trained], schema: additive.Schema, plan: train.Plan, figures: dict) -> str:
    """The whole card."""
    rows = "; ".join(
        f"{kind}: {t.counts['fit legitimate'] + t.counts['calibrate legitimate']} good requests and"
        f" {t.counts['fit attacks'] + t.counts['calibrate attacks']} attacks"
        for kind, t in trained.items()
    )
    traffic = plan.traffic
    lines = [HEAD.format(version=plan.version, train=traffic["train"], users=traffic["users"], days=traffic["days"], rows=rows[0].upper() + rows[1:] + ".")]
    lines += report.table(["figure", "reached", "wanted", "holds"], report.bars(figures["kinds"]))
    lines += [
        "## What they say of known situations",
        "",
        "The exporter refuses to write a model that leaves the permitted range; the situations are part of the golden vectors.",
        "",
    ]
    for kind in KINDS:
        scenarios, probability = export_model.situations(trained[kind], schema)
        lines += [f"### {kind}", "", export_starter.table(scenarios, probability), ""]
    return "\n".join(lines).rstrip() + "\n" + FOOT
