#!/bin/bash
# Upgrades the charts of an earlier commit to those of this checkout, on a cluster of its own, and fails when a pod, an
# endpoint or an object of a user was touched by it.
#
#   make upgrade-test FROM=<commit>
#
# Both images are built without optimisation for size; it takes some minutes. CLUSTER: the command of the local cluster.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

from=${1:?usage: tests/upgrade.sh COMMIT IMAGE.tar}
image=${2:?usage: tests/upgrade.sh COMMIT IMAGE.tar}
cluster=${CLUSTER:-target/debug/mainstay-cluster}
export MAINSTAY_CLUSTER_NAME=upgrade
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$(mktemp -d)
# Always the same folder for a commit, and files as old as it is: Cargo builds nothing anew the next time.
before=$target/upgrade/$(git rev-parse --verify "$from^{commit}")

clear_up() {
  jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
  "$cluster" down >/dev/null || true
  rm -rf "$work"
}
trap clear_up EXIT
trap 'echo "failed at line $LINENO of tests/upgrade.sh" >&2' ERR

in_cluster() { "$cluster" exec -- "$@"; }
until_true() { # seconds, what, command...
  local deadline=$((SECONDS + $1)) what=$2 seen
  shift 2
  until seen=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$deadline" ] || { printf 'waited in vain for %s. Seen last:\n%s\n' "$what" "$seen" >&2; exit 1; }
    sleep 1
  done
}

echo "== The image of $(git log -1 --format='%h %s' "$from")"
mkdir -p "$before"
git archive "$from" | tar --extract --directory "$before"
(
  cd "$before"
  # One program, or one for each controller.
  programs=()
  for main in controllers/*/src/main.rs; do
    programs+=("$(sed -n 's/^name = "\(.*\)"/\1/p' "${main%src/main.rs}Cargo.toml" | head -n 1)")
  done
  CARGO_TARGET_DIR=$target/upgrade cargo build --quiet --workspace "${programs[@]/#/--bin=}"
  roots=/etc/ssl/certs/ca-certificates.crt
  entrypoint=()
  [ "${programs[*]}" != mainstay ] || entrypoint=(--entrypoint /bin/mainstay)
  files=()
  for program in "${programs[@]}"; do files+=("$target/upgrade/debug/$program=/bin/$program"); done
  "$cluster" build-image --name localhost/mainstay:before --output "$work/before.tar" --with-libs "${entrypoint[@]}" \
    "${files[@]}" "$roots=$roots"
)

echo '== A cluster with the charts of before, and the examples'
"$cluster" down >/dev/null
"$cluster" up --nodes 3 --zones 3
"$cluster" load-image "$work/before.tar" "$image"
values=(--set "image.repository=localhost/mainstay,controllers.accounts.enabled=true" --namespace mainstay)
in_cluster helm install mainstay-crds "$before/charts/mainstay-crds" >/dev/null
in_cluster helm install mainstay "$before/charts/mainstay" --create-namespace "${values[@]}" --set image.tag=before >/dev/null
rolled_out() {
  in_cluster kubectl -n mainstay rollout status deployment --timeout=180s >/dev/null
}
rolled_out
in_cluster kubectl create namespace used >/dev/null
in_cluster kubectl label namespace used team=blue >/dev/null
for example in "$before"/examples/*.yaml; do in_cluster kubectl -n used apply -f "$example" >/dev/null; done
kinds=(replicagroup/web endpointpool/shop configrollout/greeter accountpolicy/pipelines nodehealthpolicy/workers)
in_cluster kubectl -n used wait --for=condition=Ready --timeout=300s "${kinds[@]}"

# What must not change: pods, what slices send traffic to, and whatever the controllers made or work on.
noted() {
  in_cluster kubectl -n used get pods -o json |
    jq -S '[.items[] | {name: .metadata.name, uid: .metadata.uid, restarts: [.status.containerStatuses[]?.restartCount]}]'
  in_cluster kubectl -n used get endpointslices -o json |
    jq -S '[.items[] | {name: .metadata.name, uid: .metadata.uid, endpoints: [.endpoints[]? | {addresses, conditions}] | sort, ports}]'
  in_cluster kubectl -n used get deployments,replicagroups,endpointpools,configrollouts,serviceaccounts,rolebindings,services -o json |
    jq -S '[.items[] | {kind, name: .metadata.name, uid: .metadata.uid, generation: .metadata.generation}]'
  # No value is read here.
  in_cluster kubectl -n used get secrets,configmaps -o json |
    jq -S '[.items[] | {kind, name: .metadata.name, uid: .metadata.uid, version: .metadata.resourceVersion}]'
}
# The examples' own first rollout has ended when the pods that it replaced are gone.
none_ends() {
  [ -z "$(in_cluster kubectl -n used get pods -o json | jq -r '.items[].metadata | select(.deletionTimestamp) | .name')" ]
}
until_true 120 'pods that end to be gone' none_ends
noted >"$work/noted"
for kind in pods endpointslices; do
  in_cluster kubectl -n used get "$kind" --watch-only -o json >"$work/events-$kind" &
done

echo '== The upgrade'
holders() { in_cluster kubectl -n mainstay get leases -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.holderIdentity}{"\n"}{end}' | sort; }
holders >"$work/holders"
in_cluster helm upgrade mainstay-crds charts/mainstay-crds >/dev/null
in_cluster helm upgrade mainstay charts/mainstay "${values[@]}" >/dev/null
rolled_out
led_anew() { [ -z "$(comm -12 "$work/holders" <(holders))" ] && ! holders | grep -q ' $'; }
until_true 60 'a new leader of each controller' led_anew
# Each new leader has looked at what there was when it has made what comes now.
in_cluster kubectl create namespace later >/dev/null
in_cluster kubectl label namespace later team=blue >/dev/null
for example in examples/*.yaml; do
  case $example in *policy.yaml) ;; *) in_cluster kubectl -n later apply -f "$example" >/dev/null ;; esac
done
in_cluster kubectl -n later wait --for=condition=Ready --timeout=300s replicagroup/web endpointpool/shop configrollout/greeter
until_true 60 'an account in the later namespace' in_cluster kubectl -n later get secret pipeline-token
in_cluster kubectl -n used wait --for=condition=Ready --timeout=60s "${kinds[@]}" >/dev/null
noted >"$work/noted-after"
diff "$work/noted" "$work/noted-after" || { echo 'The upgrade has touched what is above.' >&2; exit 1; }
gone=$(jq -r 'select(.metadata.deletionTimestamp or .type == "DELETED") | "\(.kind) \(.metadata.name)"' "$work"/events-*)
[ -z "$gone" ] || { printf 'deleted meanwhile:\n%s\n' "$gone" >&2; exit 1; }
echo '== Pods, endpoints and objects are as they were.'
