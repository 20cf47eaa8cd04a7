#!/usr/bin/env python3
"""Stands for `sky` and, under the name gcloud, for `gcloud storage rsync`: jobs are processes here.

Its arguments are kept in calls, a line each; what it prints has the form of SkyPilot 0.14.1. The
bucket is a folder, and what a task mounts is that folder. `sky preempt NUMBER` takes a machine
away: the job is killed and started again. It lives in $FAKE_SKY, and reads what lies there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Of a job that `sky jobs queue --output=json` tells; all others of its fields are null.
FIELDS = """task_job_id job_id task_id job_name task_name job_duration workspace status
schedule_state resources cluster_resources cluster_resources_full cloud region zone infra
recovery_count details failure_reason user_name user_hash submitted_at start_at end_at user_yaml
entrypoint metadata controller_pid controller_pid_started_at dag_yaml_path env_file_path
last_recovered_at run_timestamp priority priority_class original_user_yaml_path pool pool_hash
current_cluster_name cluster_name_on_cloud job_id_on_pool_cluster accelerators labels links
node_names execution is_job_group is_primary_in_job_group root_job_id parent_job_id parent_task_id
dynamic_task_index is_batch batch_total_batches batch_completed_batches internal_external_ips
internal_services""".split()


def main(root: Path, program: str, words: list[str]) -> int:
    with open(root / "calls", "a") as calls:
        calls.write(f"{program} {' '.join(words)}\n")
    if (root / "away").exists():
        print("requests.exceptions.ConnectionError: nobody answers", file=sys.stderr)
        return 1
    if program == "gcloud":
        return copy(root, words[-2], words[-1], words[-3].removeprefix("--exclude="))
    action = words[0] if words[0] == "preempt" else words[1]
    if action == "launch":
        number = len(list(root.glob("*.job"))) + 1
        text = Path(words[-1]).read_text()
        run = read_task(text)
        workdir, name = run["workdir"], words[words.index("-n") + 1]
        script = run["run"].replace("/runs/", f"{root}/bucket/")
        job = {"number": number, "name": name, "workdir": workdir, "script": script, "lost": 0}
        begin(root, job)
        print(f"📋 Useful Commands\nManaged Job ID: {number}")
    elif action == "queue":
        jobs = [json.loads(each.read_text()) for each in sorted(root.glob("*.job"))]
        if not jobs:
            said = "sky.exceptions.ClusterNotUpError: No in-progress managed jobs."
            print(said, file=sys.stderr)
            return 1
        records = [record(root, job) for job in reversed(jobs)]
        print(f"a line before\n{json.dumps(records, indent=2)}")
    elif action == "cancel":
        (root / f"{words[-1]}.cancelled").touch()
        end(root, words[-1], signal.SIGTERM)
    else:
        job = json.loads((root / f"{words[-1]}.job").read_text())
        end(root, words[-1], signal.SIGKILL)
        begin(root, job | {"lost": job["lost"] + 1})
    return 0


def read_task(text: str) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(text)


def begin(root: Path, job: dict[str, Any]) -> None:
    number = job["number"]
    (root / f"{number}.code").unlink(missing_ok=True)
    code = f"{root}/{number}.code"  # once it is there it can be read
    script = f'{job["script"]}\necho $? >"{code}.new"\nmv "{code}.new" "{code}"\n'
    with open(root / f"{number}.log", "ab") as log:
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=job["workdir"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (root / f"{number}.job").write_text(json.dumps(job | {"process": process.pid}))


def end(root: Path, number: str, sent: signal.Signals) -> None:
    process = json.loads((root / f"{number}.job").read_text())["process"]
    try:
        os.killpg(process, sent)
        while True:
            os.killpg(process, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        pass


def record(root: Path, job: dict[str, Any]) -> dict[str, Any]:
    code = root / f"{job['number']}.code"
    if (root / f"{job['number']}.cancelled").exists():
        status = "CANCELLED"
    elif not code.exists():
        status = "RUNNING"
    else:
        status = "SUCCEEDED" if int(code.read_text()) == 0 else "FAILED"
    known = {"job_id": job["number"], "task_id": 0, "job_name": job["name"], "status": status}
    return dict.fromkeys(FIELDS) | known | {"recovery_count": job["lost"]}


def copy(root: Path, source: str, target: str, exclude: str) -> int:
    folder = root / "bucket" / source.split("/", 3)[3]
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not re.match(exclude, str(relative)):
            (Path(target) / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, Path(target) / relative)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(os.environ["FAKE_SKY"]), Path(sys.argv[0]).name, sys.argv[1:]))
