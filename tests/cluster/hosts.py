"""Two hosts on one machine: each with network, mounts, processes, name, /tmp/ray, home and sshd of its own.

No process of them outlives this one, however it ends: a host is a process namespace, which the kernel ends with its
first process, and that one dies with its parent. The cable between them goes with the networks that it joins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ADDRESSES = {"head": "198.51.100.1", "worker": "198.51.100.2"}  # of the block that RFC 5737 keeps for documentation
PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare", "nsenter", "setpriv")
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")

# The first process of a host: $1 what is its own, $2 what all share, $3 its name, $4 its address.
BOOT = """
set -e
hostname "$3"
mount --bind "$1/home" "$2/home"
mount --bind "$1/ray" /tmp/ray
mount --bind "$2/passwd" /etc/passwd
mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mkdir /run/sshd
until ip link show eth0 > /dev/null 2>&1; do sleep 0.1; done
ip link set lo up
ip link set eth0 up
ip address add "$4/24" dev eth0
exec "$(command -v sshd)" -D -e -f "$2/sshd_config"
"""

SSHD = """
HostKey {shared}/key
AuthorizedKeysFile {shared}/key.pub
PidFile none
StrictModes no
"""

# What a host is born with beside a home: one CPU, and its packages, so that nothing is fetched.
BASHRC = """
export RAY_OVERRIDE_RESOURCES='{"CPU": 1}' GLOO_SOCKET_IFNAME=eth0
export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0 TMPDIR=~/tmp RAY_TMPDIR=/tmp
"""


@dataclass(frozen=True)
class Host:
    """A host that runs; ``folder`` is where its home and its /tmp/ray are seen from outside."""

    address: str
    folder: Path
    unshare: subprocess.Popen[bytes]

    @property
    def network(self) -> str:
        return f"/proc/{self.unshare.pid}/ns/net"

    def sent_bytes(self) -> int:
        """What has left it over the cable so far."""
        counters = Path(f"/proc/{self.unshare.pid}/net/dev").read_text().partition("eth0:")[2].split()
        return int(counters[8])

    def programs(self) -> set[str]:
        """Names of what runs on it."""
        return {process.name() for process in psutil.Process(self.unshare.pid).children(recursive=True)}

    def switch_off(self) -> None:
        """Ends all its processes, and waits until they are gone."""
        for first in psutil.Process(self.unshare.pid).children():
            first.kill()
        self.unshare.wait()


def obstacle() -> str:
    """Why there can be no hosts here, or ''."""
    if absent := [program for program in PROGRAMS if not shutil.which(program)]:
        return f"not installed: {', '.join(absent)}"
    for trial in (("mount", "-t", "tmpfs", "none", "/run"), ("ip", "link", "add", "eth0", "type", "veth")):
        tried = subprocess.run([*UNSHARE, *trial], capture_output=True, text=True)
        if tried.returncode:
            return f"{' '.join(trial)}: {tried.stderr.strip()}"
    return ""


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host, Path]]:
    """Head and worker, joined, with sshd up; and the folder that both see: ``key`` opens them."""
    Path("/tmp/ray").mkdir(exist_ok=True)
    shared = Path(tempfile.mkdtemp(prefix="kdltr-hosts-"))
    hosts: list[Host] = []
    try:
        _furnish(shared)
        for name, address in ADDRESSES.items():
            hosts.append(_boot(shared, name, address))
        head, worker = hosts
        # fmt: off
        subprocess.run(
            ["ip", "link", "add", "eth0", "netns", str(head.unshare.pid),
             "type", "veth", "peer", "eth0", "netns", str(worker.unshare.pid)],
            check=True,
        )
        # fmt: on
        yield head, worker, shared
    finally:
        for host in hosts:
            host.switch_off()
        shutil.rmtree(shared)


def _furnish(shared: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", shared / "key"], check=True)
    (shared / "sshd_config").write_text(SSHD.format(shared=shared))
    (shared / "hosts").write_text("".join(f"{address} {name}\n" for name, address in ADDRESSES.items()))
    others = [line for line in Path("/etc/passwd").read_text().splitlines(True) if not line.startswith("root:")]
    (shared / "passwd").write_text(f"root:x:0:0:root:{shared}/home:/bin/bash\n{''.join(others)}")

    home = shared / "home"
    (home / "tmp").mkdir(parents=True)
    (home / ".bashrc").write_text(BASHRC)
    environment = home / "kdltr-env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    own = sysconfig.get_path("purelib", vars={"base": str(environment)})
    Path(own, "packages-of-the-host.pth").write_text("\n".join(packages))
    for name in ("ray", "mlflow"):
        script = Path(sysconfig.get_path("scripts"), name).read_text().partition("\n")[2]
        (environment / "bin" / name).write_text(f"#!{environment}/bin/python\n{script}")
        (environment / "bin" / name).chmod(0o755)
    for name in ADDRESSES:
        shutil.copytree(home, shared / name / "home", symlinks=True)
        (shared / name / "ray").mkdir()


def _boot(shared: Path, name: str, address: str) -> Host:
    folder = shared / name
    with (folder / "boot.txt").open("w") as log:
        unshare = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *UNSHARE, "bash", "-c", BOOT, "boot", folder, shared, name, address],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while os.readlink(f"/proc/{unshare.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
        time.sleep(0.05)
    return Host(address, folder, unshare)
