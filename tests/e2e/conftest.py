"""A namespace for each test on the server of a test process: workers of one test never see another's."""

from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.e2e.programs import PARTITIONS, Deployment, Programs, until

from turnstream.adapters.embedded import EmbeddedServer


@pytest.fixture
def deployment(server: EmbeddedServer) -> Deployment:
    return Deployment(server.url, f"e2e-{uuid4().hex[:16]}")


@pytest.fixture
def programs(tmp_path: Path, deployment: Deployment) -> Generator[Programs]:
    """Programs that work on the test's own deployment."""
    started = Programs(tmp_path, deployment.environment)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture(scope="module")
def shared(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Programs]:
    """Programs that work on a deployment with a running worker, which several tests share."""
    deployment = Deployment(server.url, f"e2e-{uuid4().hex[:16]}")
    started = Programs(tmp_path_factory.mktemp("shared"), deployment.environment)
    try:
        started.worker("--log-level", "warning")
        until(lambda: deployment.owned_by(one=PARTITIONS))
        yield started
    finally:
        started.close()
