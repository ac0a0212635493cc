# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: the repository, the compiler, Debian packages, and waiting for comfy-bridge.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What it takes to build comfy-bridge.
build_packages=(libmicrohttpd-dev libsqlite3-dev libturbojpeg0-dev libpng-dev zlib1g-dev pkg-config)

heading() {
  printf '\n== %s\n' "$*"
}

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

require_swift() {
  command -v swift >/dev/null || die "swift is not on PATH. Install Swift 6.3 or newer (https://www.swift.org/install/linux/)."
}

# install_packages NAME…: installs those of Debian's packages that are missing; does not touch apt when none is.
install_packages() {
  local package missing=() become=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  command -v apt-get >/dev/null || die "these packages are missing and there is no apt-get to install them: ${missing[*]}"
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || die "run this first: apt-get install ${missing[*]}"
    become=(sudo)
  fi
  heading "Installing ${missing[*]}"
  "${become[@]}" apt-get update -qq
  "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# wait_for_address PID FILE: prints the URL of the line "listening on URL" in FILE, as soon as process PID has written it.
wait_for_address() {
  local url deadline=$((SECONDS + 30))
  while ((SECONDS < deadline)); do
    url=$(sed -n 's/^listening on \(http[^ ]*\).*/\1/p;T;q' "$2")
    if [[ -n $url ]]; then
      printf '%s\n' "$url"
      return 0
    fi
    kill -0 "$1" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}

# wait_until_ready URL: until the bridge at URL says that its ComfyUI is connected.
wait_until_ready() {
  local deadline=$((SECONDS + 30))
  until curl -sf -o /dev/null "$1/readyz"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# shorten: standard input with long base64 cut, one line in, one line out, at once.
shorten() {
  stdbuf -oL sed -E 's/("data_base64" ?: ?"[^"]{24})[^"]+"/\1…"/g'
}
