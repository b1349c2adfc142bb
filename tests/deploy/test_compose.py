"""compose.yaml agrees with the configurations that it mounts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.configuration.config import Config


def mounts(compose: dict[str, Any], service: str) -> dict[str, str]:
    """Source by target."""
    return {volume.split(":")[1]: volume.split(":")[0] for volume in compose["services"][service]["volumes"]}


def published(compose: dict[str, Any], service: str) -> set[int]:
    """The container's ports that are published."""
    return {int(port.split(":")[-1]) for port in compose["services"][service]["ports"]}


def test_porta_finds_its_configuration_and_its_storage(
    compose: dict[str, Any], config: Config, dockerfile: list[tuple[str, str]]
):
    """The file lies where the image looks for it, and the root of the storage is the volume."""
    where = mounts(compose, "porta")
    (path,) = [target for target, source in where.items() if source == "./porta.toml"]
    assert any(name == "ENV" and f"PORTA_CONFIG={path}" in rest.split() for name, rest in dockerfile)
    assert where[str(config.storage.root)] == "porta-data"
    assert ("VOLUME", str(config.storage.root)) in dockerfile


def test_the_ports_are_those_of_the_configurations(compose: dict[str, Any], config: Config, orthanc: dict[str, Any]):
    """What is published is listened on, and inside of the container on more than its loopback."""
    assert published(compose, "porta") == {config.dicom.port}
    assert config.dicom.host == "0.0.0.0"
    assert published(compose, "orthanc") == {orthanc["HttpPort"], orthanc["DicomPort"]}


@pytest.mark.parametrize("service", ["porta", "orthanc"])
def test_memory_and_log_are_bounded(compose: dict[str, Any], service: str):
    """One that grows is ended by itself, and its log does not fill the disk that the images lie on."""
    definition = compose["services"][service]
    assert definition["mem_limit"].endswith("g")
    assert set(definition["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("service", ["porta", "orthanc"])
def test_a_service_is_published_on_loopback_only_and_comes_back(compose: dict[str, Any], service: str):
    """Nobody on the network gets in before someone decides so; a crash is not the end."""
    definition = compose["services"][service]
    assert all(port.startswith("127.0.0.1:") for port in definition["ports"])
    assert definition["restart"] == "unless-stopped"
    assert "no-new-privileges:true" in definition["security_opt"]


def test_every_mount_exists(compose: dict[str, Any], deploy: Path, orthanc: dict[str, Any]):
    """Files are in this folder and named volumes are declared; Orthanc's storage is on one."""
    for service in compose["services"]:
        for source in mounts(compose, service).values():
            assert source in compose["volumes"] or (deploy / source).is_file()
    where = mounts(compose, "orthanc")
    assert where["/etc/orthanc/orthanc.json"] == "./orthanc.json"
    assert where[orthanc["StorageDirectory"]] == where[orthanc["IndexDirectory"]] == "orthanc-data"


def test_health_is_checked(compose: dict[str, Any], dockerfile: list[tuple[str, str]], orthanc: dict[str, Any]):
    """Porta's check is in its image, Orthanc's is here and asks for both of its ports."""
    assert "HEALTHCHECK" in dict(dockerfile)
    check = " ".join(compose["services"]["orthanc"]["healthcheck"]["test"])
    assert all(f"/127.0.0.1/{orthanc[port]}" in check for port in ("HttpPort", "DicomPort"))


def test_the_build_is_the_dockerfile_and_its_arguments(
    compose: dict[str, Any], deploy: Path, dockerfile: list[tuple[str, str]]
):
    """Also on a host with a GPU: the second file only changes what the first one has."""
    build = compose["services"]["porta"]["build"]
    assert (deploy / build["context"] / build["dockerfile"]).samefile(deploy / "Dockerfile")
    arguments = {rest.split("=")[0] for name, rest in dockerfile if name == "ARG"}
    cuda = yaml.safe_load((deploy / "compose.cuda.yaml").read_text())["services"]
    assert set(cuda) <= set(compose["services"])
    assert set(build["args"]) == set(cuda["porta"]["build"]["args"]) == arguments


def test_the_peers_are_services(compose: dict[str, Any], config: Config, orthanc: dict[str, Any]):
    """Each finds the other by the name of its service."""
    assert config.peer("orthanc").host in compose["services"]
    assert orthanc["DicomModalities"]["porta"]["Host"] in compose["services"]


def test_porta_has_time_to_end(compose: dict[str, Any]):
    """It ends within 10 s of SIGTERM."""
    assert int(compose["services"]["porta"]["stop_grace_period"].removesuffix("s")) > 10
