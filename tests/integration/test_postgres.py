"""A real PostgreSQL takes its password from a file of ours, and nobody else learns it."""

from __future__ import annotations

from tests.support.canary import Canary, assert_absent
from tests.support.stacks import FILES, store

STACK = """
services:
  db:
    image: {image}
    environment: {{POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: "dsofile://v/password"}}
    healthcheck: {{test: pg_isready -h 127.0.0.1 -U app, interval: 200ms, retries: 100}}
  client:
    image: {image}
    entrypoint: [sleep, "100000"]
    stop_signal: SIGKILL
    init: true
    environment: {{PASSWORD_FILE: "dsofile://v/password"}}
    depends_on: {{db: {{condition: service_healthy}}}}
"""
QUERY = "psql -h db -U app -d postgres -Atc 'select current_user'"


def log_in(project, password):
    """Over TCP, from another container; `password` is a word of the shell there."""
    return project.exec("client", "sh", "-c", f"PGPASSWORD={password} {QUERY}", check=False)


def test_password_from_a_file_opens_the_database_and_another_does_not(home, project, engine, images):
    password = Canary.new().around(b"$", b"'\" \\ $$ end")
    store(home, password=password.value)
    project.compose_yaml(STACK.format(image=images.postgres))
    outputs = {"up": project.dso("--debug", "up", "-d", "--wait").stderr}
    for _start in range(2):
        assert log_in(project, f'"$(cat {FILES}/v.password)"').out == "app\n"
        refused = log_in(project, "another")
        assert refused.returncode == 2
        assert 'password authentication failed for user "app"' in refused.err
        assert_absent(password, engine=engine, project=project, outputs=outputs)
        project.compose("restart", "db")
        project.dso("up", "-d", "--wait")
    project.dso("down", "-v")
    project.assert_nothing_left()
    assert_absent(password, engine=engine, project=project)
