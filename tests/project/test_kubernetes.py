"""docker/kubernetes.yml against docker-compose.yml, which is run: users, paths and images."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = list(yaml.safe_load_all((ROOT / "docker/kubernetes.yml").read_text()))
SET = next(one for one in DOCUMENTS if one["kind"] == "StatefulSet")
POD = SET["spec"]["template"]["spec"]
STACK = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
CONTAINERS = {one["name"]: one for one in POD["containers"]}


def targets(service):
    """Where something is mounted, whatever the kind; the configuration is the image's own here."""
    mounts = [*service["volumes"], *(f"tmpfs:{one}" for one in service["tmpfs"]), "_:/run/secrets"]
    return {mount.split(":")[1] for mount in mounts} - {"/etc/ejabberd/ejabberd.yml"}


def default(text):
    return re.fullmatch(r"\$\{\w+:-(.+)\}", text)[1]


def test_both_are_there():
    assert CONTAINERS.keys() == {"ejabberd", "megaphone"}


def test_what_is_mounted_where():
    for name, container in CONTAINERS.items():
        found = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert found == targets(STACK[name]), name
    claims = {claim["metadata"]["name"] for claim in SET["spec"]["volumeClaimTemplates"]}
    declared = {volume["name"] for volume in POD["volumes"]} | claims
    used = {mount["name"] for one in CONTAINERS.values() for mount in one["volumeMounts"]}
    assert used == declared


def test_users_rights_and_images():
    for name, container in CONTAINERS.items():
        rights = container["securityContext"]
        user = f"{rights['runAsUser']}:{rights['runAsGroup']}"
        assert user == STACK[name]["user"]
        assert rights["readOnlyRootFilesystem"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert not rights["allowPrivilegeEscalation"]
        assert container["image"] == default(STACK[name]["image"])
    assert [str(POD["securityContext"]["fsGroup"])] == STACK["ejabberd"]["group_add"]


def test_ports_probes_and_the_socket():
    inside = {port.rsplit(":", 1)[1] for name in CONTAINERS for port in STACK[name]["ports"]}
    ports = {port["containerPort"] for one in CONTAINERS.values() for port in one["ports"]}
    assert {str(port) for port in ports} == inside
    sidecar = CONTAINERS["megaphone"]
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    healthy = CONTAINERS["ejabberd"]["startupProbe"]["exec"]["command"]
    assert ["CMD", *healthy] == STACK["ejabberd"]["healthcheck"]["test"]
    variables = {one["name"]: one["value"] for one in sidecar["env"]}
    name = "MEGAPHONE_SIDECAR__SOCKET"
    assert variables[name] == STACK["megaphone"]["environment"][name]
