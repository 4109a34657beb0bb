"""compose.yaml opens no more than it must."""

from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # podman-compose brings it, without types
from stack.composed import REPOSITORY, Project, target

SERVICES = ("postgres", "mlflow", "optstudy", "optstudy-cpu")


def test_these_are_the_services(compose: Project) -> None:
    assert sorted(compose.compose["services"]) == sorted(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_to_its_machine(name: str, compose: Project) -> None:
    service = compose.service(name)

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0].isdigit()
    for open_door in ("privileged", "cap_add", "network_mode", "pid", "ipc", "userns_mode", "env_file"):
        assert open_door not in service


def test_mlflow_alone_is_reached_from_this_machine_alone(compose: Project) -> None:
    ports = {name: compose.service(name).get("ports", []) for name in SERVICES}

    assert ports == {"mlflow": ["127.0.0.1:5000:5000"], "postgres": [], "optstudy": [], "optstudy-cpu": []}


def test_the_database_is_reached_by_mlflow_alone(compose: Project) -> None:
    near = {name for name in SERVICES if "store" in compose.service(name)["networks"]}

    assert near == {"postgres", "mlflow"}
    assert compose.compose["networks"]["store"] == {"internal": True}
    assert compose.service("postgres")["networks"] == ["store"]
    assert compose.service("mlflow")["environment"]["PGHOST"] == "postgres"


def test_every_secret_is_a_file_that_make_secrets_makes_and_a_service_reads(compose: Project) -> None:
    made = {f"secrets/{file.name}" for file in (compose.folder / "secrets").iterdir()}
    named = {secret["file"] for secret in compose.compose["secrets"].values()}
    read = {
        secret if isinstance(secret, str) else secret["source"]
        for name in SERVICES
        for secret in compose.service(name)["secrets"]
    }

    assert named == made - {"secrets/mlflow_password"}  # that one is for a person
    assert {f"secrets/{name}" for name in read} == named


def test_no_secret_stands_in_an_environment_or_a_command(compose: Project) -> None:
    written = yaml.safe_dump(compose.compose)

    assert not any(secret in written for secret in compose.passwords())


def test_a_service_starts_when_what_it_needs_is_healthy(compose: Project) -> None:
    for name, needed in {"mlflow": "postgres", "optstudy": "mlflow", "optstudy-cpu": "mlflow"}.items():
        assert compose.service(name)["depends_on"] == {needed: {"condition": "service_healthy"}}
        assert compose.service(needed)["healthcheck"]["test"][0] == "CMD"


def test_what_must_last_is_in_a_volume_or_a_folder(compose: Project) -> None:
    kept = {name: [target(mount) for mount in compose.service(name)["volumes"]] for name in SERVICES}
    environment, command = compose.service("postgres")["environment"], compose.service("mlflow")["command"]
    [artifacts] = [word.partition("=")[2] for word in command if word.startswith("--artifacts-destination=")]

    assert environment["PGDATA"].startswith(f"{kept['postgres'][0]}/")
    assert artifacts.startswith(f"{kept['mlflow'][0]}/")
    assert kept["optstudy"] == [compose.service("optstudy")["working_dir"]]


def test_with_and_without_a_gpu_the_service_is_the_same(compose: Project) -> None:
    def without_gpu(service: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in service.items() if key != "deploy"}

    [device] = compose.service("optstudy")["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in compose.service("optstudy-cpu")
    assert without_gpu(compose.service("optstudy")) == compose.service("optstudy-cpu")


def test_the_images_home_is_where_compose_mounts_it(compose: Project) -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    assert "HOME=/home/optstudy " in dockerfile
    assert "install -d -m 1777 /home/optstudy" in dockerfile  # a new volume takes its mode from there
    for service in (compose.service("mlflow"), compose.service("optstudy")):
        assert any(target(mount) == "/home/optstudy" for mount in service["volumes"] + service["tmpfs"])
