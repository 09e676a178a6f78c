#!/bin/sh
# Transcribe audio with the bundle beside this script: ./run AUDIO... [--json] [--threads N] [--language CODE]
# The first run makes an environment in .venv, @HOW@. Needs python3 (@PYTHONS@) with venv.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
    echo "run: $1" >&2
    exit 2
}

# Off before Python starts, unless the user's environment says otherwise: onnxruntime would report to its maker.
ORT_DISABLE_TELEMETRY=${ORT_DISABLE_TELEMETRY-1}
export ORT_DISABLE_TELEMETRY

venv=$here/.venv
if [ ! -f "$venv/ready" ]; then
    machine=$(uname -m)
    [ "$machine" = "@MACHINE@" ] || fail "this machine is $machine, the pack is for @MACHINE@; pack it again with --platform"
    command -v python3 >/dev/null 2>&1 || fail "there is no python3; install Python 3.11 or newer with venv"
    version=$(python3 -c 'import struct, sys; print("%d.%d-%d" % (*sys.version_info[:2], 8 * struct.calcsize("P")))')
    case " @PYTHONS@ " in
        *" ${version%-*} "*) ;;
        *) @OTHER_PYTHON@ ;;
    esac
    [ "${version#*-}" = 64 ] || fail "python3 has ${version#*-} bits; install a 64-bit system"
    python3 -c 'import ensurepip, venv' 2>/dev/null || fail "python3 has no venv (Debian: apt install python3-venv)"
    if command -v sha256sum >/dev/null 2>&1; then
        (cd "$here" && sha256sum --quiet -c SHA256SUMS >/dev/null 2>&1) || fail "a file is damaged; copy the archive again"
    fi
    trap 'rm -rf "$venv"' EXIT
    trap 'exit 130' HUP INT TERM
    rm -rf "$venv"
    python3 -m venv "$venv" || fail "no environment can be made in $here; is the disk full?"
    pip() {
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: "$@" >&2 \
            || fail "pip could not install the wheels; its reason stands above"
    }
    pip @INDEX@ --require-hashes --requirement "$here/requirements.txt"
    # This package's own wheel: SHA256SUMS has its hash.
    pip --no-index "$here"/wheels/edge_asr_deploy-*.whl
    : >"$venv/ready"
    trap - EXIT HUP INT TERM
fi
exec "$venv/bin/python" -m edge_asr_deploy transcribe "$here/bundle" "$@"
