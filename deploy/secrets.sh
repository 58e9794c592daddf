#!/bin/sh
# Makes the keys and passwords of compose.yaml, one file each; what is there stays.
# The containers' users must read the files, so the folder keeps all others of this machine out.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

make() { [ -s "$1" ] || { umask 022; printf %s "$2" > "$1.new"; mv "$1.new" "$1"; }; }

for key in sealing fingerprint audit_signing; do
  make "winnow_${key}_key" "$(openssl rand -base64 32)"
done
make postgres_password "$(openssl rand -hex 24)"
make grafana_password "$(openssl rand -hex 12)"
make winnow_database_url "postgresql://winnow:$(cat postgres_password)@postgres/winnow"
for optional in winnow_sealing_keys_accepted winnow_llm_api_key; do
  [ -e "$optional" ] || make "$optional" ""
done
echo "in $folder: $(ls | tr '\n' ' ')"
echo "Keep a copy of them elsewhere: without the sealing key no report can be opened again."
