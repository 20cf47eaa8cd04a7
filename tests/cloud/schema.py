"""The part of JobSet v1alpha2 and of the Kubernetes objects in it that our texts may use.

A name that is not here is refused, so that a slip of the pen is found; limits are those of the
published API. `problems` is the reader: a value is held against a dict of its fields, a list of the
form of its items, a type, or a condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Required(NamedTuple):
    """A field that must be there."""

    form: Any


def matching(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def among(*values: Any) -> Callable[[Any], bool]:
    return lambda value: value in values


def count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def named(form: Any) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict)
        and all(isinstance(key, str) and not problems(each, form) for key, each in value.items())
    )


LABEL = matching("[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
MOUNT = {"name": Required(LABEL), "mountPath": Required(matching("/[^:]*"))}
CONTAINER = {
    "name": Required(LABEL),
    "image": Required(str),
    "command": [str],
    "args": [str],
    "resources": {"limits": named(count), "requests": named(count)},
    "volumeMounts": [MOUNT],
}
VOLUME = {
    "name": Required(LABEL),
    "persistentVolumeClaim": {"claimName": Required(LABEL)},
    "emptyDir": {"medium": among("", "Memory"), "sizeLimit": str},
}
POD = {
    "restartPolicy": Required(among("Never", "OnFailure")),  # a job takes no Always
    "terminationGracePeriodSeconds": count,
    "securityContext": {"fsGroup": count, "runAsUser": count},
    "nodeSelector": named(matching("[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")),
    "containers": Required([CONTAINER]),
    "volumes": [VOLUME],
}
JOB = {
    "completionMode": among("Indexed"),
    "completions": count,
    "parallelism": count,
    "backoffLimit": count,
    "template": Required({"spec": Required(POD)}),
}
JOBSET = {
    "apiVersion": Required(among("jobset.x-k8s.io/v1alpha2")),
    "kind": Required(among("JobSet")),
    "metadata": Required({"name": Required(LABEL), "annotations": named(str)}),
    "spec": Required(
        {
            "failurePolicy": {"maxRestarts": count},
            "network": {"enableDNSHostnames": bool, "subdomain": LABEL},
            "replicatedJobs": Required(
                [
                    {
                        "name": Required(LABEL),
                        "replicas": count,
                        "template": Required({"spec": Required(JOB)}),
                    }
                ]
            ),
        }
    ),
}


def problems(value: Any, form: Any, where: str = "") -> list[str]:
    """What is wrong with `value`, each with where it is."""
    if isinstance(form, Required):
        return problems(value, form.form, where)
    if isinstance(form, Mapping):
        if not isinstance(value, dict):
            return [f"{where}: found {value!r}, required a map"]
        found = [f"{where}.{name}: not in the schema" for name in value.keys() - form.keys()]
        for name, inner in form.items():
            if name in value:
                found += problems(value[name], inner, f"{where}.{name}")
            elif isinstance(inner, Required):
                found.append(f"{where}.{name}: required")
        return found
    if isinstance(form, list):
        if not isinstance(value, list):
            return [f"{where}: found {value!r}, required a list"]
        each = (problems(item, form[0], f"{where}[{n}]") for n, item in enumerate(value))
        return [problem for found in each for problem in found]
    holds = isinstance(value, form) if isinstance(form, type) else form(value)
    return [] if holds else [f"{where}: found {value!r}"]


def problems_of(jobset: Any) -> list[str]:
    """Those of a JobSet: its fields, that mounts have volumes, and that names fit into a pod's."""
    found = problems(jobset, JOBSET)
    if found:
        return found
    for job in jobset["spec"]["replicatedJobs"]:
        spec = job["template"]["spec"]
        pod = spec["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            found += [f"no volume {name}" for name in mounted - volumes]
        pods, jobs = spec.get("completions", 1) - 1, job.get("replicas", 1) - 1
        # A pod's name has five more letters, which tell it from the one before it.
        longest = f"{jobset['metadata']['name']}-{job['name']}-{jobs}-{pods}-xxxxx"
        if len(longest) > 63:
            found.append(f"{longest} has {len(longest)} letters, at most 63")
    return found
