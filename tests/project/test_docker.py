"""Dockerfiles and docker-compose.yml: what can be said of them without Docker."""

import re

import pytest
import yaml

from bridge.version import __version__


def read(root, name):
    return yaml.safe_load((root / name).read_text())


@pytest.fixture(scope="module")
def stack(root):
    return read(root, "docker-compose.yml")


def default(text):
    return re.fullmatch(r"\$\{\w+:-(.+)\}", text)[1]


def test_both_versions_of_compose_read_the_file(stack):
    assert "version" not in stack
    assert "name" not in stack
    for service in stack["services"].values():
        # docker-compose 1.29 honours no limits under `deploy`.
        assert "deploy" not in service
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
        assert "container_name" not in service


def test_every_service_is_locked_up_and_checked(stack):
    for name, service in stack["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service["user"].startswith(("0", "root"))
        assert service["networks"] == ["private"]
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["start_period"]
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), name


def test_images_have_versions(stack):
    images = {name: default(one["image"]) for name, one in stack["services"].items()}
    assert images["megaphone"] == f"megaphone:{__version__}"
    assert images["ejabberd"] == f"megaphone-ejabberd:{__version__}"
    for image in images.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", image), image


def test_each_of_the_monitoring_can_stay_off(stack):
    profiles = {name: set(one.get("profiles", ())) for name, one in stack["services"].items()}
    assert profiles["ejabberd"] == profiles["megaphone"] == set()
    assert profiles["grafana"] == {"monitoring", "grafana"}
    # Whoever wants Grafana needs Prometheus.
    assert profiles["prometheus"] == profiles["grafana"] | {"prometheus"}


@pytest.mark.parametrize("image", ["megaphone", "ejabberd"])
def test_a_dockerfile_is_for_either_builder(root, image):
    text = (root / f"docker/{image}/Dockerfile").read_text()
    assert not re.search(r"--mount|--link|--chmod|<<|^# syntax", text, re.MULTILINE)
    assert f"ARG VERSION={__version__}\n" in text
    assert "ARG SUITE=bookworm\nARG BASE=debian:${SUITE}-slim\n" in text


def test_what_is_mounted_is_there(root):
    files = ["docker-compose.yml", "docker/processone.override.yml"]
    for name in files:
        for service in read(root, name)["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                if source.startswith("."):
                    assert (root / source).exists(), source


def test_grafanas_source_is_the_other_ones_with_another_address(root):
    (own,) = read(root, "docker/grafana/datasource.yml")["datasources"]
    (other,) = read(root, "metrics/grafana/provisioning/datasources/megaphone.yml")["datasources"]
    assert own == {**other, "url": "http://prometheus:9090"}


def test_the_stacks_prometheus_scrapes_as_the_rules_expect(root):
    own = read(root, "docker/prometheus/prometheus.yml")
    other = read(root, "metrics/prometheus/prometheus.yml")
    for key in ("global", "rule_files"):
        assert own[key] == other[key]
    assert [job["job_name"] for job in own["scrape_configs"]] == [
        job["job_name"] for job in other["scrape_configs"]
    ]


def test_processones_image_has_the_same_options_and_modules(root):
    own = read(root, "docker/ejabberd/ejabberd.yml")["modules"]
    options = read(root, "docker/processone/mod_megaphone.yml")["modules"]
    rest = read(root, "docker/processone/ejabberd.yml")["modules"]
    assert options | rest == own
    assert "mod_megaphone" not in rest
