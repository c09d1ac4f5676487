"""The images of the tests: built here, under names of their own, and removed at the end."""

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.compose.stack import ROOT, docker, run

#: What docker-compose.yml uses, where a registry answers.
PROMETHEUS = "prom/prometheus:v2.53.5"

#: Seconds for one image, packages and all.
BUILD_TIME = 600


class Images:
    """Names and builds."""

    def __init__(self) -> None:
        self.prefix = f"megaphone-test-{secrets.token_hex(4)}"
        self.ejabberd = self.name("ejabberd")
        self.megaphone = self.name("megaphone")
        self.sinks = self.name("sinks")
        self.prometheus = PROMETHEUS

    def name(self, what: str) -> str:
        return f"{self.prefix}/{what}:test"

    def build(self, image: str, dockerfile: str, context: str = ".", **arguments: str) -> str:
        """Builds one from the checkout."""
        run(
            [
                *("docker", "build", "-q", "-f", dockerfile, "-t", image),
                *(f"--build-arg={name}={value}" for name, value in arguments.items()),
                context,
            ],
            BUILD_TIME,
            cwd=ROOT,
        )
        return image

    def build_all(self) -> None:
        """Those of every stack; they wait for the network more than for the processor."""
        run(["tests/support/base_image", "bookworm"], BUILD_TIME, cwd=ROOT)
        with ThreadPoolExecutor() as pool:
            for done in [
                pool.submit(self.build, self.ejabberd, "docker/ejabberd/Dockerfile"),
                pool.submit(self.build, self.megaphone, "docker/megaphone/Dockerfile"),
                pool.submit(self._prometheus),
            ]:
                done.result()

    def _prometheus(self) -> None:
        try:
            docker("pull", "-q", PROMETHEUS, timeout=BUILD_TIME)
        except AssertionError:
            self.prometheus = self.name("prometheus")
            self.build(self.prometheus, "tests/support/prometheus_image/Dockerfile")

    def remove(self) -> None:
        """Removes them; AssertionError when a name is left."""
        for name in self.names():
            docker("rmi", "-f", name)
        assert self.names() == []

    def names(self) -> list[str]:
        return docker(
            *("images", "--format", "{{.Repository}}:{{.Tag}}"),
            *("--filter", f"reference={self.prefix}/*"),
        ).split()


def stages() -> set[str]:
    """Images without a name that stages of a Dockerfile have left."""
    return set(
        docker(
            *("images", "-q", "--filter", "dangling=true", "--filter", "label=megaphone.stage")
        ).split()
    )


@contextlib.contextmanager
def built() -> Iterator[Images]:
    """All images, for as long as it takes."""
    before = stages()
    images = Images()
    try:
        images.build_all()
        yield images
    finally:
        images.remove()
        for stage in stages() - before:
            # Somebody else's build may rely on it.
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                docker("rmi", stage)
