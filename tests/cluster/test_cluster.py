"""A sweep on a cluster that `ray up` made of cluster.onprem.yaml, from token to `ray down`, one machine lost.

The machines are namespaces of this one (tests/cluster/hosts), S3 is moto's server on the bridge between them.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.cluster.test_cluster_files import ROOT, read
from tests.support.aws import moto_server
from tests.support.in_process import PENALTY_ALONE
from tests.support.waiting import DEADLINE_SECONDS, wait_until

boto3 = pytest.importorskip("boto3", reason="pip install '.[test]'")

TOOLS = ("ip", "sshd", "ssh", "rsync")
missing = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None]
pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="makes hosts: Linux, as root"),
    pytest.mark.skipif(bool(missing), reason=f"apt-get install iproute2 openssh-server rsync; missing: {missing}"),
]

HOSTS = Path(__file__).with_name("hosts")
# Of the tests' own, where another suite may run.
NETWORKS = (f"10.77.{(os.getpid() + step) % 250}" for step in range(250))
SUBNET = next(one for one in NETWORKS if not Path(f"/sys/class/net/pb{one.replace('.', '-')}").exists())
HEAD, KEPT, LOST = (f"{SUBNET}.{host}" for host in (1, 2, 3))
EPOCHS = 25
STORAGE = "s3://bucket/results"
# Four trials of a few seconds; each takes all of a worker, so that two run at any time. No death is forgiven.
SWEEP = ["tasks=depth", "lambdas=0,1e-2", "seeds=2", f"epochs={EPOCHS}", "cpus_per_trial=2", "max_retries=0"]
SWEEP += ["image_size=32", "backbone_width=8", "head_channels=8", "batch_size=8", "checkpoint_seconds=0"]
SWEEP += ["dataset_options.train=24", "dataset_options.val=8", "dataset_options.test=8"]
# A machine that says nothing is missed after 20 seconds; by default it takes Ray a minute.
HEALTH = "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=3000 RAY_health_check_failure_threshold=5"


def hosts(*words: object) -> None:
    run = subprocess.run(
        [HOSTS, *map(str, words)],
        env=os.environ | {"SUBNET": SUBNET, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr


class Cluster:
    """The user's side: `ray` with a home of its own, and the bucket."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.file = folder / "cluster.yaml"
        self.environment = os.environ | {
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "RAY_TMPDIR": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self.bucket = boto3.resource(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
        ).create_bucket(Bucket="bucket")

    def ray(self, *words: str) -> str:
        """What the command says; fails with it where the command does."""
        run = subprocess.run(
            ["ray", *words], env=self.environment, cwd=self.folder, capture_output=True, text=True,
            timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
        assert run.returncode == 0, f"ray {' '.join(words)}\n{run.stdout}\n{run.stderr}"
        return run.stdout

    def exec(self, command: str) -> str:
        return self.ray("exec", str(self.file), command)

    def configure(self) -> None:
        """cluster.onprem.yaml, filled in; what differs is that this machine's Python is used, and S3 is not AWS's."""
        config: dict[str, Any] = read("cluster.onprem.yaml")
        config["provider"] |= {"head_ip": HEAD, "worker_ips": [KEPT, LOST]}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.folder / "key")}
        config["file_mounts"] = {
            target: source if source.startswith("~") else str(ROOT / source)
            for target, source in config["file_mounts"].items()
        }
        install, *others = config["setup_commands"]
        assert "pip install" in install
        variables = {
            "PYTHONPATH": "$HOME/parsimony",
            "PARSIMONY_CACHE": "$HOME/cache",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
        }
        exports = " ".join(f"{name}={value}" for name, value in variables.items())
        config["setup_commands"] = [
            f"ln -sfn {sys.prefix} ~/parsimony/.venv",
            *others,
            f"grep -qs PYTHONPATH ~/.bashrc || echo 'export {exports}' >> ~/.bashrc",
        ]
        start = config["head_start_ray_commands"]
        start[-1] = start[-1].replace("ray start", f"{HEALTH} ray start")
        workers = config["worker_start_ray_commands"]
        workers[-1] = workers[-1].replace("ray start", "ray start --num-cpus=2")
        self.file.write_text(yaml.safe_dump(config))

    def nodes(self) -> set[str]:
        """Addresses of the machines that are in the cluster."""
        ask = "import ray; ray.init(); print(*[(n['NodeManagerAddress'], n['Alive']) for n in ray.nodes()], sep='\\n')"
        return set(re.findall(r"\('([0-9.]+)', True\)", self.exec(f'python -c "{ask}" 2>&1')))

    def trials(self, name: str) -> set[str]:
        """Ids of the trials that have such a file in the bucket."""
        keys = [entry.key.split("/") for entry in self.bucket.objects.filter(Prefix="results/rooms/trials/")]
        return {key[3] for key in keys if key[4:] == [name]}

    def content(self, name: str) -> bytes:
        return self.bucket.Object(f"results/rooms/{name}").get()["Body"].read()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(f"/var/tmp/parsimony-cluster-{os.getpid()}")  # the hosts do not see this machine's /tmp
    try:
        hosts("up", 3, folder)
        with moto_server(f"{SUBNET}.254") as endpoint:
            made = Cluster(folder, endpoint)
            made.configure()
            made.ray("get-auth-token", "--generate")
            made.ray("up", "--yes", str(made.file))
            yield made
    finally:
        hosts("down", folder)
        shutil.rmtree(folder, ignore_errors=True)


def test_all_workers_come(cluster: Cluster) -> None:
    wait_until(lambda: cluster.nodes() == {HEAD, KEPT, LOST})


def test_nobody_gets_in_without_the_token(cluster: Cluster) -> None:
    for token in ("RAY_AUTH_MODE=disabled", "RAY_AUTH_TOKEN=another"):
        said = cluster.exec(f"{token} ray job list 2>&1 || echo refused")
        assert "refused" in said
        assert "authentication" in said.lower()


def test_a_machine_lost_on_the_way_costs_no_trial(cluster: Cluster) -> None:
    words = " ".join(f"--set {setting}" for setting in (*PENALTY_ALONE, *SWEEP))
    submit = f"ray job submit -- parsimony sweep rooms --storage {STORAGE} {words}"
    command = ["ray", "exec", str(cluster.file), submit]
    under_way: set[str] = set()

    def both_at_work() -> bool:
        nonlocal under_way
        under_way = cluster.trials("checkpoint.pt") - cluster.trials("result.json")
        return len(under_way) == 2

    with subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        try:
            # Both workers are at it, and so the one that goes takes a trial along.
            wait_until(lambda: both_at_work() or job.poll() is not None)
            hosts("off", 3, cluster.folder)
            said, _ = job.communicate(timeout=DEADLINE_SECONDS)
        finally:
            job.kill()
    assert job.returncode == 0, said
    assert len(under_way) == 2
    assert "4 trials done, 0 failed, 0 missing" in said
    assert cluster.nodes() == {HEAD, KEPT}

    planned = json.loads(cluster.content("sweep.json"))["trials"]
    results = pd.read_parquet(io.BytesIO(cluster.content("results.parquet")))
    assert sorted(results["trial_id"]) == sorted(planned)
    assert set(results["status"]) == {"done"}
    assert under_way <= set(planned)
    history = pd.read_parquet(io.BytesIO(cluster.content("history.parquet")))
    assert not history.duplicated(["trial_id", "epoch"]).any()
    assert len(history) == 4 * EPOCHS
    assert not cluster.trials("checkpoint.pt")
    assert "4 done, 0 failed, 0 not ended" in cluster.exec(f"parsimony status {STORAGE}/rooms")


def test_down_ends_the_head(cluster: Cluster) -> None:
    """The workers' Ray ends of itself when it has missed the head for a minute, which is not waited for here."""
    cluster.ray("down", "--yes", str(cluster.file))
    log_in = f"ssh -q -i {cluster.folder}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@{HEAD}"
    seen = subprocess.run(
        [*log_in.split(), "ps -eo comm"], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=True
    ).stdout
    assert "sshd" in seen
    assert "raylet" not in seen
