"""A SLURM cluster of one computer, for trying runs elsewhere for real: Debian's slurm-wlm, munge and openssh-server.

Everything lives in one folder and is ended with it: a munge key of its own, slurmctld, two slurmd, an sshd bound to
127.0.0.1 on a high port with keys of its own, and an ssh that reads no other configuration. It needs root. Nothing of
the system's own configuration is read or changed; munge's socket lies in the folder, too.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
_SSHD = "/usr/sbin/sshd"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """Return what keeps a cluster from being made here, or nothing."""
    lacking = [name for name in NEEDED if shutil.which(name, path=_PATH) is None]
    lacking += [] if Path(_SSHD).exists() else ["sshd"]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    return "" if os.geteuid() == 0 else "it takes root"


class Cluster:
    """The cluster. Its nodes n1 and n2 are both this computer; partitions are `debug`, and `short` with a limit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"  # of the user's there
        self.ssh_port, ctl, *self._node_ports = _free_ports(4)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool-n1", "spool-n2", "munge", "ssh", "bin", "logs", "home", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "munge").chmod(0o700)
        (folder / "munge" / "key").write_bytes(os.urandom(128))
        (folder / "munge" / "key").chmod(0o400)
        (folder / "slurm.conf").write_text(self._slurm_conf(ctl), encoding="utf-8")
        self._write_ssh()

    @property
    def environment(self) -> dict[str, str]:
        """What a program that talks to the scheduler itself needs."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start everything, and wait until both nodes are idle."""
        munge = ["munged", "--foreground", f"--key-file={self.folder}/munge/key", f"--socket={self._munge_socket}"]
        munge += ["--force", f"--pid-file={self.folder}/run/munged.pid", f"--seed-file={self.folder}/munge/seed"]
        self._start("munged", [*munge, f"--log-file={self.folder}/logs/munged.log"])
        _until(lambda: self._munge_socket.exists(), 10)
        self._start("slurmctld", ["slurmctld", "-D", "-i"])
        self.start_node("n1")
        self.start_node("n2")
        self.start_sshd()
        _until(lambda: self.run("sinfo", "-h", "-p", "debug", "-o", "%D %T").stdout.split() == ["2", "idle"], 60)

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self._start(name, ["slurmd", "-D", "-N", name])

    def kill(self, name: str) -> None:
        """End a part at once, with all its children: a node, sshd …"""
        process = self._processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def lose(self, node: str) -> None:
        """Have a node vanish with all that is at work there, the scheduler's own part first."""
        jobs = _processes_on(node, self.folder)
        steps = [parent for job in jobs if (parent := job.parent()) and parent.name().startswith("slurmstepd")]
        self._processes[node].send_signal(signal.SIGSTOP)
        for process in (*steps, *jobs):
            with suppress(psutil.Error):
                process.kill()
        self.kill(node)

    def listening(self, node: str) -> list[str]:
        """Return the addresses that the program's processes on a node listen on, without SLURM's own."""
        found = []
        for process in _processes_on(node, self.folder):
            with suppress(psutil.Error):
                if process.name().startswith("python"):
                    found += [item.laddr.ip for item in process.net_connections("tcp") if item.status == "LISTEN"]
        return found

    def start_sshd(self) -> None:
        """Start the ssh server."""
        Path("/run/sshd").mkdir(exist_ok=True)
        self._start("sshd", [_SSHD, "-D", "-e", "-f", str(self.folder / "ssh" / "sshd_config")])
        _until(lambda: _listens(self.ssh_port), 10)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the scheduler's."""
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def stop(self) -> None:
        """End everything."""
        with suppress(subprocess.SubprocessError):
            self.run("scancel", "--user", getpass.getuser())
            time.sleep(1)
        for process in _processes_of(self.folder.parent):
            with suppress(psutil.Error):
                process.kill()
        for name in list(self._processes):
            self.kill(name)

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env={**os.environ, **self.environment, "PATH": _PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def _munge_socket(self) -> Path:
        return self.folder / "run" / "munge.socket"

    def _slurm_conf(self, ctl: int) -> str:
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000"
            for number, port in enumerate(self._node_ports, start=1)
        )
        return f"""\
ClusterName=journey
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctl}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={self._munge_socket}
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool-%n
SlurmctldPidFile={self.folder}/run/slurmctld.pid
SlurmdPidFile={self.folder}/run/slurmd-%n.pid
SlurmctldParameters=enable_configless
CommunicationParameters=NoAddrCache
ReturnToService=2
SlurmdTimeout=15
KillWait=30
MinJobAge=60
InactiveLimit=0
OverTimeLimit=0
JobRequeue=1
{nodes}
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n1,n2 MaxTime=5 State=UP
"""

    def _write_ssh(self) -> None:
        ssh = self.folder / "ssh"
        for name in ("host", "user"):
            if not (ssh / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / name], check=True)
        shutil.copy(ssh / "user.pub", ssh / "authorized_keys")
        (ssh / "sshd_config").write_text(
            f"""\
ListenAddress 127.0.0.1
Port {self.ssh_port}
HostKey {ssh}/host
PidFile {self.folder}/run/sshd.pid
AuthorizedKeysFile {ssh}/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
SetEnv SLURM_CONF={self.folder}/slurm.conf QLORA_STUDIO_HOME={self.home}/qlora-studio
""",
            encoding="utf-8",
        )
        host_key = (ssh / "host.pub").read_text().strip()
        (ssh / "known_hosts").write_text(f"[127.0.0.1]:{self.ssh_port} {host_key}\n")
        (ssh / "config").write_text(
            f"""\
Host cluster
  HostName 127.0.0.1
  Port {self.ssh_port}
  User {getpass.getuser()}
  IdentityFile {ssh}/user
  IdentitiesOnly yes
  UserKnownHostsFile {ssh}/known_hosts
  StrictHostKeyChecking yes
""",
            encoding="utf-8",
        )
        real = shutil.which("ssh")
        program = self.folder / "bin" / "ssh"
        program.write_text(f'#!/bin/sh\nexec {real} -F {ssh}/config "$@"\n', encoding="utf-8")
        program.chmod(0o755)


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes of the program's whose command names something in a folder, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "qlora_studio" in words and any(word.startswith(str(folder)) for word in words):
                found.append(process)
    return found


def _processes_on(node: str, folder: Path) -> list[psutil.Process]:
    """Return what jobs of the cluster in a folder started on a node of it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if environment.get("SLURMD_NODENAME") == node and environment.get("SLURM_CONF", "").startswith(str(folder)):
                found.append(process)
    return found


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as item:
        return item.connect_ex(("127.0.0.1", port)) == 0


def _until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come about in time")
        time.sleep(0.2)


if __name__ == "__main__":
    cluster = Cluster(Path(sys.argv[1]))
    cluster.start()
    print(cluster.run("sinfo").stdout, end="")
    signal.pause()
