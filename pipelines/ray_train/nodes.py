"""The machines of a cluster: waiting for them, and asking each whether it has what a run needs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ray
import yaml
from ray.autoscaler.sdk import request_resources
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdltr_core.config import RunConfig
from kdltr_core.remote import check_there, is_uri
from pipelines.run.storage import Mirror

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_ANSWER = 120.0


def num_usable(kind: str) -> int:
    """CPUs or GPUs of all machines that are up."""
    return int(ray.cluster_resources().get(kind, 0))


def may_start_gpus() -> bool:
    """Whether the cluster that ``ray up`` began from this machine has a type of machine with GPUs."""
    try:
        cluster = yaml.safe_load((Path.home() / "ray_bootstrap_config.yaml").read_text())
        types = cluster["available_node_types"].values()
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return any((kind.get("resources") or {}).get("GPU", 0) and kind.get("max_workers", 0) for kind in types)


def wait_for(kind: str, needed: int, minutes: float, progress: Callable[[int, int], None]) -> int:
    """Ask the autoscaler, where there is one, for machines, and wait until they are up.

    Args:
        kind: "CPU" or "GPU".
        needed: of these, each wanted by one worker.
        minutes: to wait at most.
        progress: called with (there, needed).

    Returns: how many there are in the end, maybe fewer than needed.
    """
    bundle = {"CPU": 1} if kind == "CPU" else {"CPU": 1, "GPU": 1}
    request_resources(bundles=[bundle] * needed)
    until = time.monotonic() + 60 * minutes
    while (there := num_usable(kind)) < needed and time.monotonic() < until:
        progress(there, needed)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    progress(needed, needed)
    request_resources(bundles=[])  # what the workers hold keeps the machines from here on
    return there


def check_nodes(config: RunConfig, run_folder: str) -> bool:
    """Every machine is asked for the run folder, a path or a URI, and for data and weights.

    Returns: whether all answered; one that was lost meanwhile is no longer among those that are up.
    Raises: ValueError with what is missing where, and the way out.
    """
    token = secrets.token_hex(8)
    marker = None if is_uri(run_folder) else Path(run_folder) / f".seen-by-all-{token}"
    if marker:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(token)
    recognizer = config.recognizer
    weights = (recognizer.teacher_weights, recognizer.start_weights, recognizer.student_weights)
    places = [*config.data.train_roots, *config.data.benchmark_roots, *weights, recognizer.language_weights]
    places = [place for place in places if place not in ("", "bundled")]
    all_answered = True
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    try:
        answers = [
            _look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                run_folder, marker, token, places
            )
            for node in addresses
        ]
        for address, answer in zip(addresses.values(), answers, strict=True):
            try:
                wrong = ray.get(answer, timeout=SECONDS_TO_ANSWER)
            except ray.exceptions.GetTimeoutError:
                raise ValueError(
                    f"the machine {address} does not answer within {SECONDS_TO_ANSWER:.0f} s; look at `ray status`"
                ) from None
            except ray.exceptions.RayTaskError as error:
                cause = str(error.cause or error).strip().splitlines()[-1]
                raise ValueError(
                    f"the machine {address} cannot look for the run's files ({cause}); this project has to be "
                    "installed there, in the same version"
                ) from None
            except ray.exceptions.RayError:
                all_answered = False
                continue
            if wrong:
                raise ValueError(f"the machine {address} {wrong}")
        return all_answered
    finally:
        if marker:
            marker.unlink(missing_ok=True)


@ray.remote(num_cpus=0, max_retries=0)
def _look(run_folder: str, marker: Path | None, token: str, places: list[str]) -> str:
    return what_is_wrong_here(run_folder, marker, token, places)


def what_is_wrong_here(run_folder: str, marker: Path | None, token: str, places: Sequence[str]) -> str:
    """What this machine lacks, as the end of a sentence that begins with its name; '' if nothing.

    Args:
        run_folder: a path or a URI.
        marker: a file with the token that was written into the run folder; None for one in an object store.
        places: paths and URIs of data and weights.
    """
    if marker and not _holds(marker, token):
        return (
            f"does not see the run folder {run_folder}, which all machines must share: give an --output-folder on a "
            "shared mount, or in an object store such as s3://bucket/runs"
        )
    try:
        if not marker:
            Mirror(run_folder, Path()).check_reachable()
        for uri in filter(is_uri, places):
            check_there(uri)
    except (OSError, ValueError) as error:
        return f"cannot use what is in the object store: {error}"
    missing = [place for place in places if not is_uri(place) and not Path(place).exists()]
    if missing:
        return (
            f"does not have {', '.join(missing)}: put it there under the same path, on a shared mount, or in an object "
            "store and give its URI"
        )
    return ""


def _holds(file: Path, content: str) -> bool:
    try:
        return file.read_text() == content
    except OSError:
        return False
