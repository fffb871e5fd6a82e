#!/bin/bash
# Says what the demo is about to do, does it part by part, and says at its end how long each part took. `make demo` calls
# it; with KUBECONFIG set, only the image is built here.
set -euo pipefail
cd "$(dirname "$0")/.."

existing=${KUBECONFIG:+yes}
took=()

# Runs the command $2... as the part $1.
part() {
  local from=$SECONDS name=$1
  printf '\n== %s\n' "$name"
  "${@:2}"
  took+=("$(printf '%3d min %02d s  %s' $(((SECONDS - from) / 60)) $(((SECONDS - from) % 60)) "$name")")
}

# The two builds share the machine: where one links on one core, the other compiles.
builds() {
  make --no-print-directory servers &
  local servers=$!
  make --no-print-directory demo-image || { wait "$servers" || true; return 1; }
  wait "$servers"
}

if [ -n "$existing" ]; then
  cat <<'END'
This builds Mainstay from its sources, and then shows what each of its five kinds does on the cluster that KUBECONFIG
names: in the namespaces mainstay, demo, demo-quota and demo-blue.
END
  part 'Mainstay, from its sources' make --no-print-directory cluster-ready demo-image
else
  cat <<'END'
This starts a Kubernetes 1.36 in a network namespace of this machine, installs Mainstay in it, and shows what each of its
five kinds does. The first run builds all of it from sources, in about a quarter of an hour on two cores; a later one finds
it built, and takes a minute. You can stop it with Ctrl-C at any point and start it again. `make cluster-down` removes the
cluster.
END
  part 'Debian packages' make --no-print-directory packages
  part 'Kubernetes and Mainstay, from their sources' builds
  part 'the cluster starts' make --no-print-directory cluster-ready
fi
part 'what Mainstay does' make --no-print-directory demo-steps

printf '\nHow long each part took:\n'
printf '  %s\n' "${took[@]}"
