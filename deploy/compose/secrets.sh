#!/bin/sh
# Makes random passwords for compose.yaml; keeps those that are there.
set -eu
umask 077
folder="$(dirname "$0")/secrets"
mkdir -p "$folder"
for name in postgres-password owner-password worker-password operator-password grafana-password; do
    [ -s "$folder/$name" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name"
    # Containers read them as users of their own; on this machine the folder keeps others out.
    chmod 644 "$folder/$name"
done
