"""deploy/prometheus and deploy/grafana: rules and dashboards ask for what the monitor has."""

import json
import re

from deploy_files import DEPLOY, compose, documents

from monitor.metrics import Metrics

OPERATIONS = DEPLOY / "grafana" / "dashboards" / "operations.json"
BRANDS = DEPLOY / "grafana" / "dashboards" / "brands.json"
RULES = DEPLOY / "prometheus" / "alerts.yaml"


def expressions() -> list[str]:
    """Every PromQL expression of the rules and of the dashboard."""
    rules = [rule["expr"] for group in documents(RULES)[0]["groups"] for rule in group["rules"]]
    panels = json.loads(OPERATIONS.read_text(encoding="utf-8"))["panels"]
    return rules + [target["expr"] for panel in panels for target in panel["targets"]]


def series() -> dict[str, set[str]]:
    """Every series that the monitor can expose, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        for family in metric.describe() if hasattr(metric, "describe") else []:
            labels = set(metric._labelnames)  # prometheus_client has no other way to ask
            kinds = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}[family.type]
            found |= {family.name + kind: labels | ({"le"} if kind == "_bucket" else set()) for kind in kinds}
    return found


def test_rules_and_dashboard_ask_for_metrics_that_exist() -> None:
    """Every series in a rule or panel is one of monitor/metrics.py and has the labels that are asked for."""
    known = series()
    added_by_prometheus = {"instance", "job"}
    for expression in expressions():
        names = re.findall(r"sentiment_monitor_\w+", expression)
        assert set(names) <= set(known), expression
        allowed = added_by_prometheus.union(*(known[name] for name in names))
        grouped = [label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")]
        assert set(grouped) <= allowed, expression
        for name, matchers in re.findall(r"(sentiment_monitor_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", matchers)) <= known[name] | added_by_prometheus, expression


def test_every_rule_says_what_to_do() -> None:
    """Each alert has a severity, a summary and a description, and a name of its own."""
    rules = [rule for group in documents(RULES)[0]["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_grafana_finds_its_datasources_and_dashboards() -> None:
    """Panels name a provisioned datasource and do not overlap; compose mounts them where the provider looks."""
    (provisioned,) = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "sentiment.yaml")
    known = {(source["type"], source["uid"]) for source in provisioned["datasources"]}
    for board in (OPERATIONS, BRANDS):
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]:
            assert (panel["datasource"]["type"], panel["datasource"]["uid"]) in known
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken
            assert place["x"] + place["w"] <= 24
            taken |= cells
    (provider,) = documents(DEPLOY / "grafana" / "provisioning" / "dashboards" / "sentiment.yaml")[0]["providers"]
    mounts = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts
