#!/bin/sh
# Starts the server that is given as arguments with the users of users.acl. The password of each role stands in a file of
# its name; only its hash gets into the list, and nothing of it into a command line or the environment.
set -eu
umask 077
secrets=${SECRETS:-/run/secrets}
users=${TMPDIR:-/tmp}/users.acl
cp "${USERS:-/etc/valkey/users.acl}" "$users"
for role in operator worker producer consumer subscriber; do
    password=$(tr -d '\r\n' < "$secrets/$role")
    [ -n "$password" ] || { echo "no password in $secrets/$role: make secrets" >&2; exit 1; }
    hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
    sed "s/ >change-me-$role / #$hash /" "$users" > "$users.new"
    mv "$users.new" "$users"
done
exec "$@" --aclfile "$users"
