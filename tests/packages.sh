#!/bin/bash
# Says what the machine lacks for building Mainstay and running its local cluster, and installs the Debian packages
# among it.
# shellcheck disable=SC2016 # what stands in single quotes is meant for others
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
  echo 'The local cluster needs root: run this as root, or set KUBECONFIG to use a cluster you have.' >&2
  exit 1
fi
for tool in 'cargo:Rust 1.95 (https://rustup.rs)' 'go:Go 1.26 (https://go.dev/dl)'; do
  if ! command -v "${tool%%:*}" >/dev/null; then
    echo "${tool%%:*} is not on root's PATH: install ${tool#*:}." \
      'If it is there for your own user, sudo hides it: sudo env "PATH=$PATH" make …' >&2
    exit 1
  fi
done

wanted=(
  build-essential                                    # links Rust, compiles the allocator and the pause image
  containerd runc containernetworking-plugins        # the real node
  nftables iptables iproute2 conntrack ethtool socat # kube-proxy, the kubelet and the network namespace
  ca-certificates                                    # the roots by which checks over HTTPS verify
  libfaketime                                        # sets the clock of a controller under test
  mount prometheus curl jq
)
missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing ${missing[*]}"
# The cluster starts its own containerd and Prometheus, so their services stay off. That is what policy-rc.d is
# for; one that is already there is the machine's own decision.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\n# Keeps services from starting while Mainstay installs packages; delete it if it stayed.\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}")
log=$(apt-get update -q 2>&1 && "${install[@]}" 2>&1) || {
  printf '%s\n' "$log" | tail -n 20 >&2
  echo "These packages could not be installed; try it by hand: apt-get install ${missing[*]}" >&2
  exit 1
}
