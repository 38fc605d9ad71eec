"""Two runs of one name do not write in one place, and a dead one does not hold it for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kdltr_core.remote import ObjectStore
from pipelines.run.command_line import RunStopped
from pipelines.run.lease import Timing, claim
from tests.object_store import Bucket

pytestmark = pytest.mark.slow

QUICK = Timing(settling=0.0)
ANOTHER = {"id": "another", "host": "gpu-7", "pid": 4711, "kernel": "another boot", "time": "2026-01-01 00:00:00+0000"}


def place(bucket: Bucket) -> ObjectStore:
    return ObjectStore(f"{bucket.uri}/runs/first")


def claimed_by_another(bucket: Bucket) -> None:
    bucket.put("runs/first/claim.json", json.dumps(ANOTHER).encode())


def test_a_run_that_is_held_is_refused_and_free_again_at_its_end(bucket: Bucket) -> None:
    with claim(place(bucket), QUICK):
        held = json.loads(bucket.get("runs/first/claim.json"))
        assert held["pid"] == os.getpid()
        with (
            pytest.raises(ValueError, match=rf"process {os.getpid()} on .* training in {bucket.uri}.*another --name"),
            claim(place(bucket), QUICK),
        ):
            pass
        assert json.loads(bucket.get("runs/first/claim.json")) == held
    assert bucket.objects() == []
    with claim(place(bucket), QUICK):
        pass


def test_the_claim_of_another_machine_is_respected_until_it_expires(bucket: Bucket) -> None:
    claimed_by_another(bucket)
    with pytest.raises(ValueError, match=r"process 4711 on gpu-7 .* expires 60 s after"), claim(place(bucket), QUICK):
        pass
    soon = Timing(expiry=2.0, settling=0.0)
    refusals = 0
    while True:
        try:
            with claim(place(bucket), soon):
                assert json.loads(bucket.get("runs/first/claim.json"))["pid"] == os.getpid()
            break
        except ValueError:
            refusals += 1
            time.sleep(0.2)
    assert refusals > 0


HOLD = """
import sys, time
from kdltr_core.remote import ObjectStore
from pipelines.run.lease import Timing, claim
with claim(ObjectStore(sys.argv[1]), Timing(settling=0.0)):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_process_of_this_machine_that_was_killed_holds_nothing(bucket: Bucket) -> None:
    uri = f"{bucket.uri}/runs/first"
    process = subprocess.Popen([sys.executable, "-c", HOLD, uri], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"process {process.pid} on"), claim(place(bucket), QUICK):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert bucket.objects() == ["runs/first/claim.json"]
    with claim(place(bucket), QUICK):
        pass


def test_a_claim_is_refreshed(bucket: Bucket) -> None:
    def written() -> object:
        return bucket.server.client("s3").head_object(Bucket=bucket.name, Key="runs/first/claim.json")["LastModified"]

    with claim(place(bucket), Timing(refresh=0.2, settling=0.0)):
        first = written()
        while written() == first:
            time.sleep(0.1)


def test_of_two_who_claim_at_one_moment_one_gets_it(bucket: Bucket) -> None:
    start, both_decided = threading.Barrier(2), threading.Barrier(2)
    outcomes: list[str] = []

    def contend() -> None:
        store = place(bucket)
        start.wait()
        try:
            with claim(store, Timing(settling=3.0)):
                outcomes.append("held")
                both_decided.wait()
        except ValueError:
            outcomes.append("refused")
            both_decided.wait()

    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused"]


def test_a_run_that_was_taken_over_stops_and_says_so(bucket: Bucket) -> None:
    """As after a machine slept for longer than the claim lasts."""

    def sleep_through_it() -> None:
        with claim(place(bucket), Timing(refresh=0.2, settling=0.0)):
            claimed_by_another(bucket)
            time.sleep(600)

    with pytest.raises(RunStopped, match=r"process 4711 on gpu-7 took the run over; .* another --name"):
        sleep_through_it()
    assert json.loads(bucket.get("runs/first/claim.json")) == ANOTHER


def test_ctrl_c_stays_ctrl_c_and_frees_the_run(bucket: Bucket) -> None:
    with pytest.raises(KeyboardInterrupt), claim(place(bucket), QUICK):
        raise KeyboardInterrupt
    assert bucket.objects() == []
