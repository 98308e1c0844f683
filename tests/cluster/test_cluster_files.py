"""cluster.yaml and cluster.onprem.yaml, by Ray's own checks and against a stand-in for AWS."""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.aws import moto_server
from tests.support.paths import ROOT
from tests.support.waiting import DEADLINE_SECONDS

boto3 = pytest.importorskip("boto3", reason="pip install '.[test]'")
REGION = "us-west-2"


def read(name: str) -> dict[str, Any]:
    # Placeholders are no valid YAML where they stand in a list: an address does for each.
    text = (ROOT / name).read_text()
    for number, placeholder in enumerate(re.findall("<<.*?>>", text), start=1):
        text = text.replace(placeholder, f"10.0.0.{number}", 1)
    return yaml.safe_load(text)


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.onprem.yaml"])
def test_ray_accepts_the_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(read(name))
    validate_config(prepared)
    misspelt = copy.deepcopy(prepared) | {"idle_timeout_minute": 5}
    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(misspelt)


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.onprem.yaml"])
def test_every_node_gets_the_token_and_asks_for_it(name: str) -> None:
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.onprem.yaml"])
def test_every_node_gets_the_program(name: str) -> None:
    sources = [source for source in read(name)["file_mounts"].values() if not source.startswith("~")]
    assert {"pyproject.toml", "search", "mtl", "analysis"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("name", ["cluster.yaml", "cluster.onprem.yaml"])
def test_the_dashboard_listens_on_the_heads_loopback_alone(name: str) -> None:
    start = read(name)["head_start_ray_commands"][-1]
    assert re.findall(r"--dashboard-host=(\S+)", start) == ["127.0.0.1"]


# Against moto: what Ray makes on AWS. In a process of its own, as Ray keeps the clients that it has made.
BOOTSTRAP = """
import json, sys, yaml
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config
from tests.support.paths import ROOT
config = prepare_config(yaml.safe_load(open(sys.argv[1])))
print(json.dumps(bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(config))))
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that takes moto for AWS, with the stack of cluster.aws.yaml."""
    with moto_server() as endpoint:
        home = tmp_path_factory.mktemp("home")
        environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": REGION,
            "HOME": str(home),
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            boto3.client("cloudformation").create_stack(
                StackName="parsimony", TemplateBody=(ROOT / "cluster.aws.yaml").read_text()
            )
            yield os.environ | environment


@pytest.fixture(scope="module")
def bootstrapped(aws: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-c", BOOTSTRAP, str(ROOT / "cluster.yaml")]
    run = subprocess.run(
        command, env=aws, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert run.returncode == 0, run.stderr
    return yaml.safe_load(run.stdout.splitlines()[-1])


def test_ssh_alone_is_open_to_the_world(bootstrapped: dict[str, Any]) -> None:
    groups = {
        group
        for node in bootstrapped["available_node_types"].values()
        for group in node["node_config"]["SecurityGroupIds"]
    }
    described = boto3.client("ec2").describe_security_groups(GroupIds=sorted(groups))["SecurityGroups"]
    rules = [rule for group in described for rule in group["IpPermissions"]]
    assert [(r["IpProtocol"], r["FromPort"], r["ToPort"]) for r in rules if r["IpRanges"] or r["Ipv6Ranges"]] == [
        ("tcp", 22, 22)
    ]
    inside = [pair["GroupId"] for rule in rules for pair in rule["UserIdGroupPairs"]]
    assert set(inside) <= groups


def test_the_head_runs_no_trials_and_workers_come_as_spot(bootstrapped: dict[str, Any]) -> None:
    types = bootstrapped["available_node_types"]
    assert bootstrapped["head_node_type"] == "head"
    assert (types["head"]["resources"]["CPU"], types["head"]["resources"]["GPU"]) == (0, 0)
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert (types["gpu"]["resources"]["CPU"], types["gpu"]["resources"]["GPU"]) == (4, 1)
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 8)


def test_the_stack_gives_workers_the_bucket_and_no_more(aws: dict[str, str], bootstrapped: dict[str, Any]) -> None:
    iam = boto3.client("iam")
    profile = bootstrapped["available_node_types"]["gpu"]["node_config"]["IamInstanceProfile"]["Name"]
    (role,) = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
    (policy,) = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
    assert not iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
    (bucket,) = boto3.client("s3").list_buckets()["Buckets"]
    version = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId="v1")["PolicyVersion"]
    resources = [statement["Resource"] for statement in version["Document"]["Statement"]]
    assert resources == [f"arn:aws:s3:::{bucket['Name']}", f"arn:aws:s3:::{bucket['Name']}/*"]
