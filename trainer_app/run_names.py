"""A run's name: what it may look like, and how long it may be. It names Kubernetes objects too."""

from __future__ import annotations

import re

RUN_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # a DNS-1035 label
# KubeRay takes 47 for a RayJob, but names the token's Secret by the last 50 characters of <run>-<5>.
RUN_NAME_MAX = 44
# KubeRay 1.7 adds -<unix minutes> for a RayCronJob's children, 9 characters. The chart checks it.
CRON_NAME_MAX = 35
TIME_FORMAT = "%y%m%d%H%M%S"
# Of `name` in the run file, to which -yymmddhhmmss is appended.
BASE_NAME_MAX = RUN_NAME_MAX - len("-yymmddhhmmss")


def find_name_problem(name: str, most: int) -> str:
    """Return why a run can't have this name of at most `most` characters, "" if it can."""
    if not RUN_NAME.fullmatch(name):
        return "must be lower-case letters, digits and dashes, begin with a letter and not end with a dash"
    return f"has {len(name)} characters, at most {most} are allowed" if len(name) > most else ""


def fit_name(text: str, most: int) -> str:
    """Return the nearest name that is allowed, of at most `most` characters."""
    fit = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    fit = fit if fit[:1].isalpha() else f"run-{fit}"
    return fit[:most].strip("-")
