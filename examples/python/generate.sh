#!/bin/sh
# Makes the Python stubs of API v1 from proto/:  ./generate.sh [FOLDER]   (default: stubs, where the examples look)
# PYTHON names an interpreter that has grpcio-tools (default: venv/bin/python beside this file).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/stubs}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here/../../proto"
exec "${PYTHON:-$here/venv/bin/python}" -m grpc_tools.protoc -I . --python_out="$out" --pyi_out="$out" \
  --grpc_python_out="$out" tomoserve/v1/*.proto
