"""JobSets of Kubernetes (jobset.sigs.k8s.io, v1alpha2): many runs, or one run over several pods.

The image is that of the Dockerfile, or another whose entry point runs a command in an environment
that has the package. Run directories are in the volume of a claim that all pods mount.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nanogpt_jax.cloud.machines import indent

PORT = 1234
MOST_RESTARTS = 10
USER = 10001  # of the Dockerfile: the volume is made writable for it


class Pods(NamedTuple):
    """The pods of a JobSet: how many, what each runs, and what it asks of its node.

    With `together` they are one run: where one fails, all are started again.
    """

    count: int
    script: str
    together: bool
    limits: Mapping[str, int] = {}
    selector: Mapping[str, str] = {}


def render(name: str, job: str, pods: Pods, *, image: str, mount: str, claim: str = "runs") -> str:
    """A JobSet with one replicated job, an index of which is a pod."""
    annotations = ""
    if pods.selector.get("cloud.google.com/gke-tpu-topology"):
        # The pods of a slice belong on one node pool, which is one slice, and no others with them.
        annotations = """
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool"""
    return f"""apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: {name}{annotations}
spec:
  failurePolicy:
    maxRestarts: {MOST_RESTARTS}
  replicatedJobs:
    - name: {job}
      replicas: 1
      template:
        spec:
          completionMode: Indexed
          completions: {pods.count}
          parallelism: {pods.count}
          backoffLimit: {0 if pods.together else MOST_RESTARTS * pods.count}
          template:
            spec:
              restartPolicy: {"Never" if pods.together else "OnFailure"}
              terminationGracePeriodSeconds: 120
              securityContext:
                fsGroup: {USER}
              nodeSelector: {json.dumps(dict(pods.selector))}
              containers:
                - name: train
                  image: {json.dumps(image)}
                  args:
                    - /bin/bash
                    - -c
                    - |
{indent(pods.script, 22)}\
                  resources:
                    limits: {json.dumps(dict(pods.limits))}
                  volumeMounts:
                    - name: runs
                      mountPath: {json.dumps(mount)}
                    - name: memory
                      mountPath: /dev/shm
              volumes:
                - name: runs
                  persistentVolumeClaim:
                    claimName: {json.dumps(claim)}
                - name: memory
                  emptyDir:
                    medium: Memory
"""


def one_run(
    name: str,
    words: Sequence[str],
    *,
    nodes: int,
    limits: Mapping[str, int],
    selector: Mapping[str, str],
) -> Pods:
    """Pods that are the processes of one run; on TPUs JAX finds them, else by the first's name."""
    script = f"exec {shlex.join(words)}"
    if nodes > 1 and "google.com/tpu" not in limits:
        first = f"{name}-workers-0-0.{name}"  # as JobSet calls it in its headless service
        script = f"""\
until getent hosts {first} >/dev/null; do sleep 1; done
{script} --coordinator={first}:{PORT} --num_processes={nodes} --process_id="$JOB_COMPLETION_INDEX"
"""
    return Pods(nodes, script, together=True, limits=limits, selector=selector)
