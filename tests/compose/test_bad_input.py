"""What is wrong in one sidecar's container is told there, and harms nobody else."""

import secrets

import pytest

from tests.compose.stack import docker, run, wait_until

SOCKET = "MEGAPHONE_SIDECAR__SOCKET=/run/megaphone/node.sock"
#: What docker-compose.yml gives a sidecar, without its state and its secret.
HARDENED = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--network=none"),
    *("--tmpfs=/run/megaphone-control:uid=8470,mode=0700", "--tmpfs=/tmp"),
)
STATE = "--tmpfs=/var/lib/megaphone:uid=8470,mode=0700"


@pytest.fixture
def sidecar(stack, images):
    """Starts containers of the sidecar's image beside the stack; they are gone at the end."""
    started = []

    def start(*options, command=()):
        name = f"{images.prefix}-sidecar-{len(started)}"
        started.append(name)
        docker(
            *(
                "run",
                "-d",
                "--name",
                name,
                *HARDENED,
                "-v",
                f"{stack.project}_socket:/run/megaphone",
            ),
            *("-e", SOCKET, *options, images.megaphone, *command),
        )
        return name

    yield start
    for name in started:
        docker("rm", "-f", "-v", name)


def said(name):
    done = run(["docker", "logs", name], 30)
    return done.stdout + done.stderr


def ended_with(name, status, text):
    assert int(docker("wait", name, timeout=30)) == status
    assert text in said(name)
    assert "Traceback" not in said(name)


def secret_file(directory, text=None):
    file = directory / "secret"
    file.write_text(text or secrets.token_hex(32))
    file.chmod(0o644)
    return ("-v", f"{file}:/run/secrets/megaphone_secret:ro")


def test_a_root_that_is_read_only_without_a_volume_for_the_state(sidecar, tmp_path):
    name = sidecar(*secret_file(tmp_path))
    ended_with(name, 1, "/var/lib/megaphone cannot be used: Read-only file system")


def test_a_volume_for_the_state_that_is_full(sidecar, tmp_path):
    fill = "head -c 100000 /dev/zero >/var/lib/megaphone/ballast; exec megaphone sidecar"
    name = sidecar(
        *(f"{STATE},size=16k", "--entrypoint=sh", *secret_file(tmp_path)), command=("-c", fill)
    )
    ended_with(name, 1, "/var/lib/megaphone cannot be used: No space left on device")


def not_ready(name, text):
    """Waits until `megaphone ready`, the health check, says so."""
    wait_until(
        lambda: (
            (done := run(["docker", "exec", name, "megaphone", "ready"], 30, check=False))
            and done.returncode == 8
            and text in done.stderr
        ),
        20,
        lambda: said(name),
    )


def test_no_secret(sidecar):
    name = sidecar(STATE)
    not_ready(name, "/run/secrets/megaphone_secret")


def test_another_secret_than_the_nodes(stack, sidecar, tmp_path):
    name = sidecar(STATE, *secret_file(tmp_path))
    not_ready(name, "the secrets of the node and of the sidecar differ")
    assert "the secrets of the node and of the sidecar differ" in said(name)
    docker("rm", "-f", "-v", name)
    # Nobody else is bothered: the sidecar that works goes on.
    assert stack.active()
    assert "its secret is not that of sidecar.secret_file" in stack.logs("ejabberd")
