#!/bin/sh
# Install pinned requirements into a folder of an image, compiled to bytecode and without the packages' own tests.
#
#   sh install_packages.sh REQUIREMENTS FOLDER [PIP_OPTION]...
#
# TORCH_INDEX_URL, if set, is a second index for pip, with torch's CPU builds.
set -eu
requirements=$1
folder=$2
shift 2

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --no-compile \
  ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} --requirement "$requirements" --target "$folder" "$@"

# Packages do not import their own test suites, except torch and its compiler.
find "$folder" -type d -name tests -not -path "$folder/torch/*" -prune -exec rm -rf {} +

# unchecked-hash: Python uses the bytecode without comparing it with the source, whose modification time COPY may change.
# || true: some packages contain modules in the syntax of a later Python, which nothing imports on this one.
python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$folder" || true
