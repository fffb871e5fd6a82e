#!/bin/bash
# Runs the tests on the cluster. `make e2e` and `make test` call it.
#
# A few tests that fail are run once more, each alone. One that passes then does not fail the run, but it is named at the end:
# it is a defect of the test or of the product that shows itself on a busy machine only.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${CLUSTER:?the command of the cluster}" "${E2E_PROGRAM:?the file that names the program of the tests}"
# From this many failed tests on, it is no chance.
few=3
seconds=$(dirname "$E2E_PROGRAM")/e2e-seconds
output=$(mktemp)
trap 'rm -f "$output"' EXIT
rm -f "$seconds"
program=$(realpath "$(cat "$E2E_PROGRAM")")

tests() {
  "$CLUSTER" exec ${EXISTING:+"$EXISTING"} -- env MAINSTAY_IMAGE_FILE="$(realpath "$IMAGE_FILE")" \
    MAINSTAY_E2E_SECONDS="$(realpath "$seconds")" MAINSTAY_PROGRAM="$(realpath "$PROGRAM")" "$program" "$@" |
    grep --line-buffered --invert-match 'has been running for over 60 seconds'
}

failed=()
if ! tests --test-threads 500 | tee "$output"; then
  mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$output")
  # A program that died names no test.
  [ "${#failed[@]}" -gt 0 ] || exit 1
fi
echo 'The ten slowest tests on the cluster, without what they waited for others:'
sort --reverse --numeric-sort "$seconds" | sed -n 1,10p
[ "${#failed[@]}" -le "$few" ] || exit 1
for name in "${failed[@]}"; do
  echo "== $name has failed and is run once more, alone"
  tests --exact "$name"
done
for name in "${failed[@]}"; do echo "FLAKY: $name failed among the others and passed alone."; done
