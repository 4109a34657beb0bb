#!/bin/sh
# Builds the image with the first engine that answers here, or with the one that ENGINE names; passes arguments on.
set -eu
cd "$(dirname "$0")/.."

commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
test -z "$(git status --porcelain 2>/dev/null)" || commit=$commit-dirty

for engine in docker podman buildah; do
  if [ -z "${ENGINE:-}" ] && $engine info >/dev/null 2>&1; then ENGINE=$engine; fi
done
if [ -z "${ENGINE:-}" ]; then
  echo "no container engine answers here; start docker, or install podman or buildah" >&2
  exit 1
fi

export BUILDAH_LAYERS=true # buildah alone keeps no layers unless it is told to
echo "building optstudy at commit $commit with $ENGINE" >&2
exec $ENGINE build --build-arg COMMIT="$commit" --tag optstudy "$@" .
