#!/usr/bin/env bash
# A NATS server with JetStream and, when it answers, fanfare on a stream of it. Both end together.
#
#   fanfare-jetstream.sh NATS_SERVER SCRATCH FANFARE FLAGS…
set -euo pipefail
nats="$1" scratch="$2" fanfare="$3"
shift 3

"$nats" --addr 127.0.0.1 --port -1 --jetstream --store_dir "$scratch/store" \
    --ports_file_dir "$scratch" >"$scratch/nats.log" 2>&1 &
server=$!
trap 'kill "$server" "${node:-$server}" 2>/dev/null || true' EXIT
trap 'exit 0' TERM INT

# The file has the port that the kernel chose, once the server listens.
ports="$scratch/nats-server_$server.ports"
for _ in {1..100}; do
    if [[ -s "$ports" ]]; then break; fi
    sleep 0.1
done
url="$(grep -o 'nats://127\.0\.0\.1:[0-9]*' "$ports" | head -n 1)"

"$fanfare" publish "$url/BENCH" --create --replicas 1 /dev/null
"$fanfare" serve "$@" --source "$url/BENCH?forward=acked" &
node=$!
wait "$node"
