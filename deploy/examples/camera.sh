#!/usr/bin/env bash
# Sends image files as one sequence over REST, with curl alone: camera.sh FRAME...
# TTA_HTTP says where the server is, 127.0.0.1:8000 unless it is set.
set -euo pipefail
server=http://${TTA_HTTP:-127.0.0.1:8000}
start=true
for path in "$@"; do
  size=$(wc -c < "$path")
  # The file behind the JSON, as one BYTES element: its length in four bytes, lowest first, then itself.
  head='{"parameters": {"sequence_id": "camera-sh", "sequence_start": '$start', "tta_resume": true},
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": '$((size + 4))'}}],
    "outputs": [{"name": "logits", "parameters": {"classification": 1}}]}'
  length=$(printf '\\x%02x' $((size & 255)) $((size >> 8 & 255)) $((size >> 16 & 255)) $((size >> 24)))
  # {… "tta_step": 1 … "data": ["0.987:7:Sneaker"] …}
  answer=$({ printf '%s' "$head"; printf '%b' "$length"; cat "$path"; } | curl --silent --show-error --fail-with-body \
    --header "Inference-Header-Content-Length: ${#head}" --data-binary @- "$server/v2/models/fashion-mnist/infer") || { echo "$answer" >&2; exit 1; }
  printf '%s: %s, step %s\n' "$path" "$(grep -o '"data":\["[^"]*"' <<< "$answer" | cut -d'"' -f4)" "$(grep -o '"tta_step":[0-9]*' <<< "$answer" | cut -d: -f2)"
  start=false
done
curl --silent --show-error --fail-with-body "$server/v1/streams/camera-sh"
echo
