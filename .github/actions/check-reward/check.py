"""Checks a reward with dag-reward: a line for each check, a table in the job's summary, and a badge.

    python3 check.py LIB[,key=value...] BADGE.json

The exit status is that of dag-reward: 0 if no check failed.
"""
import json
import os
import pathlib
import subprocess
import sys

reward, badge = sys.argv[1:]
run = subprocess.run(["dag-reward", "check", reward, "--json"], stdout=subprocess.PIPE, text=True)
checks = json.loads(run.stdout) if run.stdout else []  # nothing: dag-reward has said on standard error why not
rows = [(check["status"], check["name"], " ".join((check["detail"] or check["what"]).split())) for check in checks]
for row in rows:
    print(*row, sep="  ")
failed, warned = (sum(status == kind for status, *_ in rows) for kind in ("fail", "warn"))
text = f"{len(rows) - failed} of {len(rows)}" if rows else "cannot be used"
colour = "red" if run.returncode else "yellow" if warned else "brightgreen"
pathlib.Path(badge).write_text(json.dumps({"schemaVersion": 1, "label": "dag-reward check", "message": text, "color": colour}) + "\n")
if "GITHUB_STEP_SUMMARY" in os.environ:
    with open(os.environ["GITHUB_STEP_SUMMARY"], "a") as summary:
        print(f"### {reward}: {text}\n\n| | check | |\n|---|---|---|", file=summary)
        for row in rows:
            print("|", " | ".join(cell.replace("|", "\\|") for cell in row), "|", file=summary)
sys.exit(run.returncode)
