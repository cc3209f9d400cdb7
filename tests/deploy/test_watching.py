"""Dashboard and alerts speak of metrics that exist, with labels that they have; every alert is tested and has its section in
the runbook; promtool takes them all (Debian package `prometheus`)."""

import json
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/riskgate.json"
# What Prometheus adds by itself, and what a histogram has.
OF_PROMETHEUS = {"instance", "job", "le"}
SUFFIX = re.compile(r"_(bucket|count|sum)$")


def reference():
    """name -> (type, labels), as docs/reference/metrics.md has them; tests/tidy compares that page with the code."""
    found = {}
    for line in (ROOT / "docs/reference/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `riskgate_"):
            found[cells[0].strip("`")] = (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
    return found


def code():
    """The names of metrics in the code."""
    return set(re.findall(r'"(riskgate_[a-z_]+)"', (ROOT / "src/telemetry/metrics.rs").read_text()))


def rules(kind):
    groups = yaml.safe_load((PROMETHEUS / "riskgate.rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries():
    """Every query with where it stands."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel `{panel['title']}`", target["expr"]
    for rule in rules("expr"):
        yield f"rule `{rule.get('alert', rule.get('record'))}`", rule["expr"]


def promtool(*arguments, folder=PROMETHEUS):
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


class Metrics(unittest.TestCase):
    def test_every_metric_in_a_query_exists_with_the_labels_that_it_is_asked_for(self):
        known, named = reference(), code()
        self.assertEqual(set(known), named, "docs/reference/metrics.md and the code differ")
        seen = set()
        for where, query in queries():
            for name, selector in re.findall(r"(?<![\w:])(riskgate_[a-z_]+)(?:\{([^}]*)\})?", query):
                metric = name if name in known else SUFFIX.sub("", name)
                with self.subTest(where=where, metric=name):
                    self.assertIn(metric, known)
                    kind, labels = known[metric]
                    self.assertEqual(kind == "histogram", metric != name, "a histogram is asked by its parts alone")
                    asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
                    self.assertLessEqual(asked, labels | OF_PROMETHEUS)
                    if kind == "counter":
                        self.assertRegex(query, r"\b(rate|increase)\(\s*" + name)
                    seen.add(metric)
            # Labels that are grouped by belong to a metric of the query, or come from Prometheus.
            metrics = [name if name in known else SUFFIX.sub("", name) for name in re.findall(r"(?<![\w:])riskgate_[a-z_]+", query)]
            has = OF_PROMETHEUS.union(*(known[name][1] for name in metrics))
            for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
                with self.subTest(where=where, by=grouped):
                    self.assertLessEqual({label.strip() for label in grouped.split(",")}, has)
        self.assertGreater(len(seen), 30, "the dashboard shows most of what there is")

    def test_a_query_names_only_recorded_rules_that_exist(self):
        recorded = {rule["record"] for rule in rules("record")}
        for where, query in queries():
            for name in re.findall(r"\b(?:instance|job):riskgate_\w+:\w+", query):
                self.assertIn(name, recorded, where)


class Alerts(unittest.TestCase):
    def test_promtool_takes_rules_and_configuration_and_runs_their_tests(self):
        for arguments in [
            ("check", "rules", "riskgate.rules.yaml"),
            ("check", "config", "--syntax-only", "riskgate.scrape.yaml"),
            ("test", "rules", "riskgate.rules.test.yaml"),
        ]:
            code, said = promtool(*arguments)
            self.assertEqual(code, 0, said)

    def test_a_rule_that_is_wrong_is_found(self):
        text = (PROMETHEUS / "riskgate.rules.yaml").read_text()
        tests = (PROMETHEUS / "riskgate.rules.test.yaml").read_text()
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "riskgate.rules.test.yaml").write_text(tests)
            changed = text.replace("riskgate_breaker_state > 0", "riskgate_breaker_state > 5")
            self.assertNotEqual(changed, text)
            (folder / "riskgate.rules.yaml").write_text(changed)
            code, said = promtool("test", "rules", "riskgate.rules.test.yaml", folder=folder)
            self.assertIn("RiskgateBreakerOpen", said)
            self.assertNotEqual(code, 0)

    def test_every_alert_fires_and_is_silent_in_a_test_and_has_its_section(self):
        cases = yaml.safe_load((PROMETHEUS / "riskgate.rules.test.yaml").read_text())["tests"]
        tested = [case for test in cases for case in test["alert_rule_test"]]
        fires = {case["alertname"] for case in tested if case.get("exp_alerts")}
        silent = {case["alertname"] for case in tested if not case.get("exp_alerts")}
        headings = re.findall(r"^## (\w+)$", (ROOT / "docs/RUNBOOK.md").read_text(), re.MULTILINE)
        anchors = {f"docs/RUNBOOK.md#{heading.lower()}" for heading in headings}
        alerts = {rule["alert"]: rule for rule in rules("alert")}
        self.assertEqual(set(alerts), fires)
        self.assertEqual(set(alerts), silent)
        for name, rule in alerts.items():
            with self.subTest(alert=name):
                self.assertIn(rule["annotations"]["runbook"], anchors)
                self.assertIn(rule["labels"]["severity"], {"warning", "critical"})
        used = {rule["annotations"]["runbook"] for rule in alerts.values()}
        sections = {anchor for anchor in anchors if anchor.partition("#riskgate")[2]}
        self.assertEqual(sections - used, set(), "sections of alerts that do not exist")


class Dashboard(unittest.TestCase):
    def test_it_is_one_that_grafana_can_take_in_again(self):
        board = json.loads(DASHBOARD.read_text())
        self.assertEqual(board["uid"], "riskgate-overview", "links to it would break")
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in panels():
            with self.subTest(panel=panel["title"]):
                self.assertEqual(panel["datasource"], {"type": "prometheus", "uid": "${datasource}"})
                self.assertTrue(panel["description"] and panel["targets"])
                place = panel["gridPos"]
                self.assertLessEqual(place["x"] + place["w"], 24)
        variables = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z]\w*)", DASHBOARD.read_text()))
        self.assertEqual(variables, used)

    def test_panels_do_not_lie_over_each_other(self):
        board = json.loads(DASHBOARD.read_text())
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells

    def test_every_query_is_one_by_promtool(self):
        queries = [target["expr"] for panel in panels() for target in panel["targets"]]
        written = [query.replace("$__rate_interval", "5m").replace("$instance", ".*") for query in queries]
        groups = [{"name": "g", "rules": [{"record": f"r:{n}", "expr": query} for n, query in enumerate(written)]}]
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            for text, expected in [(groups, 0), ([{"name": "g", "rules": [{"record": "r", "expr": "rate(x"}]}], 1)]:
                (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": text}))
                code, said = promtool("check", "rules", "rules.yaml", folder=folder)
                self.assertEqual(code, expected, said)


if __name__ == "__main__":
    unittest.main()
