#!/bin/bash
# Runs all tests. Those on the cluster wait more than they compute, so the lints and all tests that need no cluster run
# beside them at a low priority. What these print follows at the end. `make test` calls this.
set -euo pipefail
cd "$(dirname "$0")/.."

make() { command make --no-print-directory "$@"; }
cargo fmt --all --check
make demo-image e2e-program cluster-ready

log=$(mktemp)
# The kernel divides the processors between sessions before it looks at priorities within one.
setsid bash -c 'echo 10 2>/dev/null >/proc/self/autogroup || true
  exec nice -n 10 make --no-print-directory lint test-unit' >"$log" 2>&1 &
beside=$!
end() {
  kill -TERM -- "-$beside" 2>/dev/null || true
  rm -f "$log"
}
trap end EXIT

failed=
make e2e-steps || failed=yes
wait "$beside" || failed=yes
cat "$log"
[ -z "$failed" ]
