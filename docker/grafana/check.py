"""Checks docker/grafana: the dashboard's structure, and that its metrics, and metrics and labels of the rules, are pyserve's.

python3 docker/grafana/check.py
"""

import json
import pathlib
import re
import sys

here = pathlib.Path(__file__).resolve().parent
dashboard = json.loads((here / "pyserve.json").read_text())
documented = (here.parent.parent / "src/docs/monitoring.md").read_text()
wrong = []

names = [variable["name"] for variable in dashboard["templating"]["list"]]
ids = [panel["id"] for panel in dashboard["panels"]]
if len(set(ids)) != len(ids):
    wrong.append("two panels have one id")
taken = set()
for panel in dashboard["panels"]:
    place = panel["gridPos"]
    for cell in ((place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])):
        if cell in taken or cell[0] > 23:
            wrong.append("%s: the place is taken" % panel["title"])
            break
        taken.add(cell)
    for target in panel.get("targets", []):
        for variable in re.findall(r"\$(\w+)", target["expr"]):
            if variable not in names and not variable.startswith("__"):
                wrong.append("%s: no variable %s" % (panel["title"], variable))
        if target["datasource"]["uid"] != "${datasource}":
            wrong.append("%s: the data source is fixed" % panel["title"])

rules = (here / "alerts.yaml").read_text()
text = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])) + rules
for metric in sorted(set(re.findall(r"pyserve_\w+", text))):
    base = re.sub(r"_(bucket|sum|count)$", "", metric)
    if "`%s" % base not in documented:
        wrong.append("no metric %s in the manual" % metric)

# The rules select by values of labels: each is in the manual, beside its metric.
for metric, label, values in re.findall(r'(pyserve_\w+)\{(\w+)=~?"([^"]*)"\}', rules):
    line = next((line for line in documented.splitlines() if "`%s{" % metric in line), "")
    names_of_metric = line.partition("{")[2].partition("}")[0].split(",")
    if label not in names_of_metric:
        wrong.append("%s has no label %s in the manual" % (metric, label))
    for value in values.split("|"):
        if label != "status" and "`%s`" % value not in line:
            wrong.append("%s has no %s %s in the manual" % (metric, label, value))

print("\n".join(wrong) or "ok: %d panels" % len(ids))
sys.exit(bool(wrong))
