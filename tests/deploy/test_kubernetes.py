"""kubernetes.yaml is what a cluster takes, by the schemas of its API, and agrees with image and configuration."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from daemon.configuration.config import Config, parse


@pytest.fixture(scope="module")
def manifests(deploy: Path) -> dict[str, dict[str, Any]]:
    """Each object by its kind; there is one of each."""
    found = list(yaml.safe_load_all((deploy / "kubernetes.yaml").read_text()))
    assert len({item["kind"] for item in found}) == len(found)
    return {item["kind"]: item for item in found}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return manifests["StatefulSet"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", ["1.29", "1.34"])
def test_the_schemas_of_the_api_find_nothing(manifests: dict[str, dict[str, Any]], version: str):
    """Strictly: an unknown key is a fault too."""
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifests["Service"] | {"specs": {}}, version, strict=True)


def test_its_configuration_loads_and_its_port_is_the_one_that_is_probed(
    manifests: dict[str, dict[str, Any]], pod: dict[str, Any]
):
    """On all addresses of the pod; probes, service and policy name the port of the container."""
    config = parse(manifests["ConfigMap"]["data"]["porta.toml"].encode(), known_models=("resnet50",))
    (container,) = pod["containers"]
    assert config.dicom.host == "0.0.0.0"
    assert container["ports"] == [{"name": "dicom", "containerPort": config.dicom.port}]
    assert manifests["Service"]["spec"]["ports"][0]["port"] == config.dicom.port
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["tcpSocket"]["port"] == "dicom"
    egress = [port["port"] for rule in manifests["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]]
    assert {peer.port for peer in config.peers} <= set(egress)


def test_it_runs_as_the_image_does(
    manifests: dict[str, dict[str, Any]], pod: dict[str, Any], dockerfile: list[tuple[str, str]]
):
    """The user's number, the folders and the time to end are those of the Dockerfile and the program."""
    user = str(pod["securityContext"]["runAsUser"])
    assert any(name == "RUN" and f"useradd --uid {user} " in rest for name, rest in dockerfile)
    (container,) = pod["containers"]
    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    assert mounts["data"] == str(Config().storage.root)
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["terminationGracePeriodSeconds"] > 10
    assert manifests["StatefulSet"]["spec"]["replicas"] == 1
