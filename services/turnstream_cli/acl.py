"""`turnstream acl`: the rules for the server's users."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import typer

from turnstream.adapters.redis.deployment.roles import ROLES, rule
from turnstream.errors import ConfigurationError
from turnstream.settings import load_settings, read_secret
from turnstream_cli.options import RoleName

USER_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


def print_rules(
    name: RoleName | None, namespace: str | None, user: str | None, password_file: Path | None, *, as_json: bool
) -> None:
    """Print the rule of one role, or of all of them as a file.

    Raises:
        ConfigurationError: the user's name or the namespace is not allowed, or the file cannot be read.

    """
    namespace = load_settings(namespace=namespace).namespace
    if name is None:
        if user or password_file:
            raise ConfigurationError("--user and --password-file are for one role: add --role")
        _print({each: rule(each, namespace) for each in ROLES}, as_json=as_json)
        return
    if user is not None and not USER_NAME.fullmatch(user):
        raise ConfigurationError("--user: letters, digits and _ . @ - make a user's name, up to 64 of them")
    password = read_secret(password_file, "--password-file").get_secret_value() if password_file else None
    _print({name.value: rule(name.value, namespace, user=user, password=password)}, as_json=as_json)


def _print(rules: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        for role, text in rules.items():
            typer.echo(json.dumps({"role": role, "rule": text}))
    else:
        typer.echo("\n\n".join(rules.values()))
