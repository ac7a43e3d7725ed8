#!/usr/bin/env bash
# Finds what the examples for other machines need and fetches what is missing: Rust's targets by rustup, emulators and a browser by apt
# (as root on Debian; elsewhere it says what to install). For each target that can be compiled for, it leaves a compiler
# `target/toolchains/TARGET`, to be called as rustc is. The tests of those examples use them, and say that they skip where there is none.
# It never fails: what it could not get is in its last lines.
set -uo pipefail
cd "$(dirname "$0")/.."
found="${CARGO_TARGET_DIR:-target}/toolchains"
rm -rf "$found" && mkdir -p "$found" || exit 1
missing=()

# command_of PACKAGE COMMAND...: one of the commands is there, or the package can be installed.
command_of() {
    local package="$1" install=(apt-get install -qqy "$1")
    shift
    command -v "$@" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $package"
        export DEBIAN_FRONTEND=noninteractive
        { "${install[@]}" || { apt-get update -qq && "${install[@]}"; }; } >/dev/null 2>&1
    fi
    command -v "$@" >/dev/null || missing+=("$1: install the package $package")
}

# compiler_of TARGET: the target's standard library is there, or rustup can fetch it.
compiler_of() {
    has() { ls "$(rustc --print target-libdir --target "$1")"/libcore-*.rlib >/dev/null 2>&1; }
    has "$1" || rustup target add "$1" >/dev/null 2>&1
    if has "$1"; then
        printf '#!/bin/sh\nexec rustc "$@"\n' >"$found/$1" && chmod +x "$found/$1"
    else
        missing+=("$1: rustup target add $1")
    fi
}

# A C library to link statically with.
if echo 'int main(void) { return 0; }' | cc -static -x c - -o "$found/static" 2>/dev/null; then
    compiler_of x86_64-unknown-linux-gnu
else
    missing+=("x86_64-unknown-linux-gnu: cc -static finds no C library (Debian: libc6-dev)")
fi
rm -f "$found/static"

compiler_of aarch64-unknown-linux-musl
command_of qemu-user qemu-aarch64
compiler_of wasm32-unknown-unknown
command_of nodejs node
command_of chromium chromium chromium-browser google-chrome
compiler_of thumbv7em-none-eabihf
command_of qemu-system-arm qemu-system-arm

for each in "$found"/*; do
    [ -x "$each" ] && echo "ready: $(basename "$each")"
done
for each in "${missing[@]}"; do
    echo "missing: $each"
done
exit 0
