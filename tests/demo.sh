#!/bin/bash
# Shows Mainstay's main job on a running cluster, one sentence, command and answer after the other, and leaves
# everything there to play with. It can be stopped at any point, and run again.
#
#   tests/demo.sh [--existing] IMAGE.tar
#
# `make demo` calls it with kubectl and helm on the path, KUBECONFIG set, and CLUSTER, the command of the local
# cluster. --existing: a cluster that the demo did not start, where images cannot be loaded and no node is fake.
# shellcheck disable=SC2016 # what stands in single quotes is meant for others
set -Eeuo pipefail
cd "$(dirname "$0")/.."

existing=
if [ "${1:-}" = --existing ]; then existing=yes && shift; fi
image=${1:?usage: tests/demo.sh [--existing] IMAGE.tar}
cluster=${CLUSTER:-target/debug/mainstay-cluster}
enter="${MAINSTAY_CLUSTER_NAME:+MAINSTAY_CLUSTER_NAME=$MAINSTAY_CLUSTER_NAME }$cluster exec -- "
[ -z "$existing" ] || enter=
prometheus=http://10.88.0.1:9090
zone=topology.kubernetes.io/zone
bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

say() { printf '%s\n' "$@"; }
step() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }

# Steps that need nothing of each other run at the same time, and are shown one after the other. Each has a process group
# of its own, so that one signal ends it together with the command that it waits for.
output=$(mktemp -d)
declare -A running=()
begin() {
  set -m
  "$1" >"$output/$1" 2>&1 &
  set +m
  running[$1]=$!
}
show() {
  local status=0
  tail -n +1 -s 0.2 --pid="${running[$1]}" -f "$output/$1"
  wait "${running[$1]}" || status=$?
  unset "running[$1]"
  [ "$status" -eq 0 ] || exit "$status"
}
ended() {
  local group
  for group in "${running[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
  rm -rf "$output"
}

stopped() {
  trap - INT TERM HUP ERR
  printf '\nStopped. What is there works on; run the demo again to see the rest.\n'
  [ -n "$existing" ] || echo 'To remove the cluster: make cluster-down.'
  exit 130
}
trap stopped INT TERM HUP
trap ended EXIT
trap 'printf "\nThe demo failed at line %s of tests/demo.sh; its last words are above.\n" "$LINENO" >&2' ERR

die() { # what happened, what to do about it
  printf '\nThe demo failed: %s\n%s\n' "$1" "${2:-}" >&2
  exit 1
}

# Runs a command line as a person would type it, and passes on whether it succeeded. $2: seconds it may take.
# (--foreground, because Ctrl-C has to reach the command as well.)
try() {
  local status=0 seconds=${2:-60}
  printf '$ %s\n' "$1"
  timeout --foreground "$seconds" bash -o pipefail -c "$1" || status=$?
  [ "$status" -ne 124 ] || say "(stopped after $seconds seconds)"
  return "$status"
}

# The same for one that has to succeed. $3: what to do when it does not.
run() { try "$@" || die "the command above did not succeed." "${3:-}"; }

# Runs the command $3... every half second until it succeeds, and leaves its output in `seen`. $1: seconds it has,
# $2: what is waited for.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until seen=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$deadline" ] || die "waited in vain for $what. Seen last:" "$seen"
    sleep 0.5
  done
}

# Installs or upgrades a release. timeout gives helm a process group of its own, so that Ctrl-C cannot leave a
# release half written, which helm would refuse to touch again; it needs a second or two.
install() {
  local words out
  printf '$ helm upgrade --install %s\n' "$1"
  read -ra words <<<"$1"
  out=$(timeout 120 helm upgrade --install "${words[@]}" 2>&1) ||
    die "Helm refused. $out" "If Mainstay was installed before under another name: helm list --all-namespaces"
  grep -E '^(STATUS|REVISION):' <<<"$out"
}

# Makes a namespace, and leaves one alone that is not the demo's.
namespace() {
  local label=app.kubernetes.io/part-of=mainstay-demo
  if [ -z "$(kubectl get namespace "$1" --ignore-not-found -o name)" ]; then
    printf '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s","labels":{"%s":"%s"}}}' \
      "$1" "${label%=*}" "${label#*=}" | kubectl create -f - >/dev/null
  elif [ -z "$(kubectl get namespace -l "$label" --field-selector "metadata.name=$1" -o name)" ]; then
    die "there is a namespace $1 that is not the demo's." "Delete it if it is not needed, and run the demo again."
  fi
}

# The command line that asks the Service $1 a few times who answers.
asking() {
  local ask
  if [ -n "$existing" ]; then
    # From a pod of the group: the API server's own proxy knows no Service without a selector.
    ask="kubectl get --raw '/api/v1/namespaces/demo/services/web:http/proxy/dial?host=$1&port=80&protocol=http&request=hostname&tries=1'"
  else
    ask="curl -sS --max-time 3 http://$(kubectl -n demo get service "$1" -o jsonpath='{.spec.clusterIP}')/hostname"
  fi
  printf '%s' "for i in {1..12}; do $ask; echo; done | sort"
}

# Lines of "pod node" of the group's pods that are ready and stay; fails unless there are $2.
pods_of() {
  local pods
  pods=$(kubectl -n demo get pods -l "app=$1" -o go-template='{{range .items}}
    {{- $pod := . -}}
    {{- if not .metadata.deletionTimestamp -}}{{- range .status.conditions -}}
    {{- if and (eq .type "Ready") (eq .status "True") -}}{{$pod.metadata.name}} {{$pod.spec.nodeName}}{{"\n"}}
    {{- end -}}{{- end -}}{{- end -}}{{- end -}}')
  printf '%s\n' "$pods"
  [ "$(grep -c . <<<"$pods")" -eq "$2" ]
}
replaced() { pods_of web 3 && [ -z "$(kubectl -n demo get pod "$1" --ignore-not-found -o name)" ]; }

# Adds a row to `table`: how many of the $1 pods of the group `zones` each zone has.
zones_row() {
  until_true 60 "$1 pods of the group zones" pods_of zones "$1"
  local -A count=()
  local node name least=$1 most=0
  for name in "${zones[@]}"; do count[$name]=0; done
  while read -r _ node; do count[${zone_of[$node]}]=$((count[${zone_of[$node]}] + 1)); done <<<"$seen"
  table+=$'\n'$(printf '%12s' "$1")
  for name in "${zones[@]}"; do
    table+=$(printf '%9s' "${count[$name]}")
    least=$((count[$name] < least ? count[$name] : least))
    most=$((count[$name] > most ? count[$name] : most))
  done
  [ $((most - least)) -le 1 ] || die "the zones may differ by one pod at most, and do not:" "$table"
}

for program in kubectl helm curl; do
  command -v "$program" >/dev/null || die "$program is not on the path." \
    "\`make demo\` sets up all it needs; for a cluster of your own, install $program."
done
[ -n "$existing" ] || [ -f "$image" ] || die "there is no image $image." "Run \`make image\` first."
kubectl version --request-timeout=10s >/dev/null || die "no cluster answers at KUBECONFIG=${KUBECONFIG:-}."

if [ -n "$existing" ]; then
  say "This is the cluster that KUBECONFIG names, context $(kubectl config current-context)."
else
  say 'Lines with $ are commands. To run one yourself, put this before it:' "  $enter"
fi
namespace demo
namespace demo-quota

step "1. The image is loaded into the node."
settings=(" --set controllers.accounts.enabled=true" " --set image.repository=${MAINSTAY_IMAGE:-localhost/mainstay}")
if [ -n "$existing" ]; then
  say "Skipped: only the owner of the nodes can do that. Push $image where they can pull it and run" \
    "  MAINSTAY_IMAGE=registry.example.com/mainstay make demo" \
    "or load it by hand, as in: kind load image-archive $image"
else
  run "$cluster load-image $image" 120
  # The tag is the same for every build; as an annotation, the digest makes new pods when the image is new.
  digest=$(tar -xOf "$image" index.json | grep -o 'sha256:[0-9a-f]*')
  for controller in replication endpoints; do
    settings+=(" --set controllers.$controller.podAnnotations.image-digest=$digest")
  done
fi

step "2. Helm installs the CRDs, then the controllers."
install "mainstay-crds charts/mainstay-crds"
install "mainstay charts/mainstay --namespace mainstay --create-namespace${settings[*]}"
for controller in replication endpoints; do
  run "kubectl -n mainstay rollout status deployment/mainstay-$controller --timeout=120s | tail -n 1" 130 \
    "Look at: ${enter}kubectl -n mainstay describe pods"
done

web_step() {
  step "3. A ReplicaGroup creates three pods behind a Service."
  run "kubectl -n demo apply -f examples/replicagroup.yaml"
  run "kubectl -n demo wait replicagroup/web --for=condition=Ready --timeout=120s" 130 \
    "Look at: ${enter}kubectl -n demo describe replicagroup/web"
  run "kubectl -n demo get replicagroups"

  step "4. The Service answers; each pod gives its own name."
  ask=$(asking web)
  until_true 30 "answers of all three pods" bash -o pipefail -c "[ \$($ask -u | wc -l) -eq 3 ]"
  run "$ask | uniq -c"

  step "5. A pod is killed, and the group replaces it."
  until_true 30 "three ready pods" pods_of web 3
  victim=${seen%% *}
  run "kubectl -n demo delete pod $victim --wait=false"
  run "kubectl -n demo get pods -l app=web"
  until_true 60 "a pod in place of $victim" replaced "$victim"
  run "kubectl -n demo wait replicagroup/web --for=condition=Ready --timeout=60s"
  run "kubectl -n demo get pods -l app=web"

  step "6. A change that cannot work is rolled back automatically. Here the image does not exist:"
  missing='[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"localhost/missing:1"},
    {"op":"add","path":"/spec/failure/unschedulableSeconds","value":5}]'
  run "kubectl -n demo patch replicagroup/web --type=json -p '$missing'"
  run "kubectl -n demo wait replicagroup/web --for=condition=RolledBack --timeout=60s" 70
  run "kubectl -n demo wait replicagroup/web --for=jsonpath='{.status.availableReplicas}'=3 --timeout=60s" 70
  run "kubectl -n demo get replicagroup/web -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].message}{\"\\n\"}'"
  run "$ask | uniq -c"
}

zones_step() {
  step "7. At a scale-down the zones stay balanced."
  if [ "${#zones[@]}" -lt 3 ]; then
    say "Skipped: it needs nodes in three zones, simulated by kwok and labelled type=kwok, and there are none here."
  else
    run "kubectl -n demo apply -f examples/replicagroup-zones.yaml"
    run "kubectl -n demo wait replicagroup/zones --for=condition=Ready --timeout=60s" 70
    table=$(printf '%12s' pods)$(printf '%9s' "${zones[@]}")
    zones_row 9
    run "kubectl -n demo scale replicagroup/zones --replicas=6"
    zones_row 6
    run "kubectl -n demo scale replicagroup/zones --replicas=4"
    zones_row 4
    say "$table"
  fi
}

quota_step() {
  step "8. A quota allows only two of three pods. The group reports it, and continues by itself when the quota is raised."
  kubectl -n demo-quota delete replicagroup/web resourcequota/limit --ignore-not-found --cascade=foreground \
    --timeout=60s >/dev/null || die "the namespace demo-quota cannot be emptied of an earlier run."
  run "kubectl -n demo-quota create quota limit --hard=pods=2"
  until_true 30 "the quota to be in force" kubectl -n demo-quota wait resourcequota/limit --timeout=1s \
    --for='jsonpath={.status.hard.pods}=2'
  run "kubectl -n demo-quota apply -f examples/replicagroup.yaml"
  local reason='{.status.conditions[?(@.type=="Ready")].reason}'
  run "kubectl -n demo-quota wait replicagroup/web --for='jsonpath=$reason=QuotaExceeded' --timeout=60s" 70
  run "kubectl -n demo-quota get replicagroup/web -o jsonpath='${reason%reason*}message}{\"\\n\"}'"
  run "kubectl -n demo-quota patch resourcequota/limit -p '{\"spec\":{\"hard\":{\"pods\":\"3\"}}}'"
  run "kubectl -n demo-quota wait replicagroup/web --for=condition=Ready --timeout=60s" 70
  say "" "An invalid spec is refused with a reason. Here the template's label does not match the selector:"
  local typo='{"spec":{"template":{"metadata":{"labels":{"app":"wbe"}}}}}'
  if try "kubectl -n demo-quota patch replicagroup/web --type=merge -p '$typo'"; then
    die "this change should have been refused."
  fi
}

pool_step() {
  step "9. An EndpointPool creates a Service for two sets of servers. When the first set fails, the second takes over."
  run "kubectl -n demo apply -f examples/endpointpool.yaml"
  run "kubectl -n demo wait endpointpool/shop --for=condition=Ready --timeout=120s" 130 \
    "Look at: ${enter}kubectl -n demo describe endpointpool/shop"
  # After an earlier run the first set has to be well for half a minute before it is returned to.
  run "kubectl -n demo wait endpointpool/shop --for='jsonpath={.status.tier}=0' --timeout=90s" 100
  run "kubectl -n demo get endpointpools"
  shop=$(asking shop)
  until_true 30 "answers of the first set" bash -o pipefail -c "$shop -u | grep shop-main"
  run "$shop | uniq -c"
  run "kubectl -n demo scale deployment/shop-main --replicas=0"
  run "kubectl -n demo wait endpointpool/shop --for=condition=FailedOver --timeout=60s" 70
  until_true 30 "answers of the second set" bash -o pipefail -c "$shop -u | grep shop-standby"
  run "$shop | uniq -c"
  run "kubectl -n demo get endpointpool/shop -o jsonpath='{.status.conditions[?(@.type==\"FailedOver\")].message}{\"\\n\"}'"
  run "kubectl -n demo scale deployment/shop-main --replicas=2"
}

nodes_step() {
  # The nodes that die here have pods of that step.
  tail -s 0.2 --pid="${running[zones_step]}" -f /dev/null
  step "10. A node dies: its Lease is no longer renewed. Within seconds it is cordoned, and it is restored when it returns."
  run "kubectl apply -f examples/nodehealthpolicy.yaml"
  until_true 60 "the policy to watch all nodes" kubectl wait nodehealthpolicy/workers --for=condition=Ready --timeout=1s
  run "kubectl get nodehealthpolicies"
  victim=$(printf '%s\n' "${!zone_of[@]}" | sort | head -n 1)
  if [ -z "$victim" ]; then
    say "Skipped: the demo does not kill your nodes, and there are none simulated by kwok."
  else
    say "So far it is a dry run. Now it acts, on simulated nodes only:"
    acts='{"spec":{"dryRun":false,"nodeSelector":{"matchLabels":{"type":"kwok"}},"secondOpinion":{"kubelet":{"enabled":false}}}}'
    run "kubectl patch nodehealthpolicy workers --type=merge -p '$acts'"
    # kwok lets go of a node whose Lease another holds, and takes it back when the last renewal is old.
    lost="{\"spec\":{\"holderIdentity\":\"none\",\"renewTime\":\"$(date -u -d '+1 hour' +%FT%T.000000Z)\"}}"
    run "kubectl -n kube-node-lease patch lease $victim --type=merge -p '$lost'"
    run "kubectl wait node/$victim --for='jsonpath={.spec.unschedulable}=true' --timeout=90s" 100
    run "kubectl get nodehealthpolicies"
    why='{range .status.unhealthyNodes[*]}{.name}: {.state}, {.reason}{"\n"}{end}'
    run "kubectl get nodehealthpolicy workers -o jsonpath='$why'"
    run "kubectl -n kube-node-lease delete lease $victim"
    until_true 120 "the node to be restored" bash -c \
      "! kubectl get node $victim -o jsonpath='{.spec}' | grep -e unschedulable -e mainstay.dev/unhealthy"
    run "kubectl events --for node/$victim | grep -e NodeTaken -e NodeHandedBack | tail -n 2"
  fi
  run "kubectl delete nodehealthpolicy workers"
}

config_step() {
  step "11. A ConfigMap is rolled out in stages: a canary first. A bad value is rolled back automatically."
  run "kubectl -n demo apply -f examples/configrollout.yaml"
  soon='[{"op":"replace","path":"/spec/stages/0/soakSeconds","value":3},'
  soon+='{"op":"replace","path":"/spec/stages/0/gate/deadlineSeconds","value":15}]'
  run "kubectl -n demo patch configrollout/greeter --type=json -p '$soon'"
  run "kubectl -n demo wait configrollout/greeter --for=condition=Ready --timeout=120s" 130 \
    "Look at: ${enter}kubectl -n demo describe configrollout/greeter"
  newest() { kubectl -n demo get configrollout/greeter -o jsonpath='{.status.revision}'; }
  next=$(($(newest) + 1))
  run "kubectl -n demo patch configmap/greeter --type=merge -p '{\"data\":{\"greeting\":\"good evening\"}}'"
  run "kubectl -n demo wait configrollout/greeter --for='jsonpath={.status.currentRevision}=$next' --timeout=120s" 130
  run "kubectl -n demo get configmaps -l mainstay.dev/config-rollout=greeter"
  run "kubectl -n demo patch configmap/greeter --type=merge -p '{\"data\":{\"port\":\"9090\"}}'"
  run "kubectl -n demo wait configrollout/greeter --for=condition=RolledBack --timeout=120s" 130
  run "kubectl -n demo get configrollouts"
  run "kubectl -n demo get configrollout/greeter -o jsonpath='{.status.conditions[?(@.type==\"RolledBack\")].message}{\"\\n\"}'"
}

account_step() {
  step "12. A team's namespaces get an account, a role binding and a token that is renewed. Revoking takes a moment."
  run "kubectl apply -f examples/accountpolicy.yaml"
  # One of a run before may still be going.
  until_true 120 "namespace demo-blue" bash -c \
    'kubectl create namespace demo-blue || kubectl get namespace demo-blue -o jsonpath={.status.phase} | grep -x Active'
  run "kubectl label namespace demo-blue team=blue --overwrite"
  until_true 60 "the namespace to have all objects" kubectl -n demo-blue get secret pipeline-token
  run "kubectl -n demo-blue get serviceaccounts,rolebindings,secrets"
  data() { kubectl -n demo-blue get secret pipeline-token -o jsonpath="{.data.$1}" | base64 -d; }
  token() { data token; }
  # With the token and nothing else: a certificate of yours would say who comes.
  server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')
  authority=$output/authority
  data 'ca\.crt' >"$authority"
  may() {
    kubectl --kubeconfig=/dev/null --server="$server" --certificate-authority="$authority" --token="$1" \
      -n demo-blue auth can-i "${@:2}" 2>&1 || true
  }
  first=$(token)
  say "With the token: may it create pods? $(may "$first" create pods). Roles? $(may "$first" create roles)."
  run "kubectl -n demo-blue annotate secret pipeline-token mainstay.dev/revoke=yes"
  another() { [ "$(token)" != "$first" ]; }
  until_true 30 "another token" another
  refused() { may "$first" create pods | grep -i 'must be logged in\|unauthorized'; }
  until_true 30 "the previous token to be revoked" refused
  say "The previous token: $seen" "The new one may create pods: $(may "$(token)" create pods)."
  run "kubectl get accountpolicies"
  run "kubectl delete accountpolicy pipelines"
  run "kubectl delete namespace demo-blue --wait=false"
}

declare -A zone_of=()
while read -r node name; do zone_of[$node]=$name; done < <(
  kubectl get nodes -l type=kwok -L "$zone" --no-headers | awk '{print $1, $NF}'
)
mapfile -t zones < <(printf '%s\n' "${zone_of[@]}" | sort -u)

for part in web zones quota pool config account; do begin "${part}_step"; done
begin nodes_step
for part in web zones quota pool nodes config account; do show "${part}_step"; done

step "13. Prometheus reads the controllers' metrics."
created='sum(mainstay_replication_pods_created_total)'
scraped() { [ "$(promtool query instant "$prometheus" "$1" | grep -c .)" -ge 1 ]; }
if [ -n "$existing" ]; then
  say "Skipped: the demo does not know your Prometheus. The pods are annotated for it; query it for" "  $created"
else
  up='max by (pod) (up{namespace="mainstay"})'
  until_true 30 "Prometheus to count pods" scraped "$created > 0"
  run "promtool query instant $prometheus '$up'"
  run "promtool query instant $prometheus '$created'"
fi

step "14. Events report what was done: one for each batch, not for each pod."
run "kubectl -n demo events --for replicagroup/web | tail -n 6"

step "Done. The cluster stays up; try next:"
say "  ${enter}kubectl -n demo scale replicagroup/web --replicas=5" \
  "  ${enter}kubectl -n demo get replicagroups --watch" \
  "  ${enter}kubectl -n demo describe replicagroup/web" \
  "  ${enter}kubectl explain replicagroup.spec.scaleDown"
if [ -n "$existing" ]; then
  say "To remove what the demo made: kubectl delete namespace demo demo-quota. The rest: docs/operations.md, Uninstall."
else
  say "  $enter""bash                   # a shell in the cluster's network" \
    "To see what runs: make cluster-status. To remove the cluster: make cluster-down."
fi
