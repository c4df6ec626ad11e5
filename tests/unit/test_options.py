"""Options of the commands: every one that takes seconds refuses an invalid number."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

import turnstream_alerts.main
import turnstream_cli.main
import turnstream_relay.main
from turnstream.adapters.redis.deployment.roles import ROLES
from turnstream_cli.options import RoleName
from turnstream_service.options import check_finite

APPS = {module.__name__: module.app for module in (turnstream_cli.main, turnstream_relay.main)}


def options_in(app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Yield the options that take a float, by command and name."""
    for group in app.registered_groups:
        assert group.typer_instance
        yield from options_in(group.typer_instance)
    for command in app.registered_commands:
        assert command.callback
        for parameter in inspect.signature(command.callback).parameters.values():
            kind, *about = get_args(parameter.annotation) or (None,)
            if float in (kind, *get_args(kind)):
                yield f"{command.callback.__name__} {parameter.name}", about[0]


SECONDS = [pytest.param(option, id=name) for app in APPS.values() for name, option in options_in(app)]


@pytest.mark.parametrize("option", SECONDS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400"])
def test_an_invalid_number_of_seconds_is_refused(option: Any, value: str) -> None:  # noqa: ANN401
    with pytest.raises(typer.BadParameter, match="expected a number of seconds"):
        option.callback(float(value))
    assert option.callback(1.5) == 1.5


def test_an_absent_value_is_no_fault() -> None:
    assert check_finite(None) is None


@pytest.mark.parametrize("value", ["inf", "nan"])
@pytest.mark.parametrize(
    ("app", "line"),
    [
        (turnstream_cli.main.app, ["send", "get-session", "{}", "--timeout"]),
        (turnstream_cli.main.app, ["send", "get-session", "{}", "--apply-within"]),
        (turnstream_cli.main.app, ["subscriptions", "redrive", "billing", "chat", "--timeout"]),
        (turnstream_relay.main.app, ["run", "--config", "relay.toml", "--report-every"]),
    ],
)
def test_the_option_is_named(app: typer.Typer, line: list[str], value: str) -> None:
    done = CliRunner().invoke(app, [*line, value], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert line[-1] in done.stderr


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "0"])
def test_the_alerts_refuse_it_too(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        turnstream_alerts.main.main([f"--every={value}"])
    assert ended.value.code == 2
    assert "--every takes seconds above 0" in capsys.readouterr().err


def test_the_help_of_the_alerts_explains_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        turnstream_alerts.main.main(["--help"])
    assert "whose context window gets full" in " ".join(capsys.readouterr().out.split())


def test_rules_can_be_printed_for_every_role() -> None:
    assert tuple(RoleName) == ROLES
