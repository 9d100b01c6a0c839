#!/bin/sh
# Install pinned requirements into a folder of an image: without the packages' own tests, and with their bytecode.
#
#   sh install_packages.sh REQUIREMENTS FOLDER [PIP_OPTION]...
#
# TORCH_INDEX_URL, if set, is a second index for pip: the one with torch's CPU builds.
set -eu
requirements=$1
folder=$2
shift 2

python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --no-compile \
  ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} --requirement "$requirements" --target "$folder" "$@"

# Test suites are never imported by what they test. torch and its compiler do import theirs, so torch stays whole.
find "$folder" -type d -name tests -not -path "$folder/torch/*" -prune -exec rm -rf {} +

# The image's files never change, so Python need not compare bytecode with a source whose time a copy may alter.
# Packages may carry modules in the syntax of a later Python, which nothing imports on this one: no reason to stop.
python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$folder" || true
