#!/usr/bin/env bash
# Build both Lambda images, push them to ECR, deploy template.yaml and print the API's address. Never prompts.
#
#   deploy/deploy.sh [PARAMETER=VALUE ...]
#
# The parameters are the template's; an omitted one keeps its value of the last deployment. Environment variables:
#
#   AWS_REGION        region (default: the AWS profile's)
#   STACK             name of the stack and of the ECR repository (default lstm-api)
#   IMAGE_VERSION     deploy images that were pushed earlier instead of building, to roll back
#   TORCH_INDEX_URL   pip's second index during the build (default torch's CPU builds; '' for none)
set -euo pipefail
cd "$(dirname "$0")/.."
export SAM_CLI_TELEMETRY=0 AWS_PAGER=

fail() {
  echo "$1" >&2
  exit 1
}

require_tools() {
  local tool missing=()
  for tool in aws docker git sam; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} -eq 0 ] || fail "missing: ${missing[*]}. docs/deploy.md lists where to get each."
}

# The commit, with a hash of uncommitted changes, so that a version always names the same content.
version_of_tree() {
  local commit
  commit=$(git rev-parse --short=12 HEAD)
  [ -n "$(git status --porcelain)" ] || { echo "$commit"; return; }
  { git diff HEAD --binary; git ls-files --others --exclude-standard -z | xargs -0 --no-run-if-empty sha256sum; } \
    | sha256sum | sed "s/^\(.\{8\}\).*/$commit-\1/"
}

is_pushed() { # TAG
  aws ecr describe-images --region "$region" --repository-name "$stack" --image-ids "imageTag=$1" >/dev/null 2>&1
}

ensure_repository() {
  aws ecr describe-repositories --region "$region" --repository-names "$stack" >/dev/null 2>&1 && return
  echo "creating the ECR repository $stack"
  aws ecr create-repository --region "$region" --repository-name "$stack" --image-tag-mutability IMMUTABLE \
    --image-scanning-configuration scanOnPush=true >/dev/null
}

build_and_push() { # TARGET
  local tag=$version-$1
  if is_pushed "$tag"; then
    echo "$tag has already been pushed"
    return
  fi
  echo "building and pushing $tag"
  # Lambda refuses an image index, which BuildKit makes by adding an attestation.
  BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --platform linux/amd64 --target "$1" \
    --build-arg "TORCH_INDEX_URL=${TORCH_INDEX_URL-https://download.pytorch.org/whl/cpu}" \
    --tag "$registry/$stack:$tag" .
  docker push "$registry/$stack:$tag"
}

output() { # NAME: prints an output of the stack
  aws cloudformation describe-stacks --region "$region" --stack-name "$stack" --output text \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue"
}

require_tools
for parameter in "$@"; do
  [[ $parameter =~ ^[A-Za-z]+=.+$ ]] || fail "expected PARAMETER=VALUE, found '$parameter'"
done
stack=${STACK:-lstm-api}
[[ $stack =~ ^[a-z][a-z0-9-]{1,62}$ ]] || fail "STACK must be lower-case letters, digits and hyphens, found '$stack'"
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
[ -n "$region" ] || fail "no region: set one, as in export AWS_REGION=us-east-1"
account=$(aws sts get-caller-identity --region "$region" --query Account --output text)
registry=$account.dkr.ecr.$region.amazonaws.com
version=${IMAGE_VERSION:-$(version_of_tree)}

if [ -n "${IMAGE_VERSION:-}" ]; then
  for target in serve train; do
    is_pushed "$version-$target" || fail "no image $version-$target in the ECR repository $stack"
  done
else
  ensure_repository
  aws ecr get-login-password --region "$region" | docker login --username AWS --password-stdin "$registry"
  build_and_push serve
  build_and_push train
fi

sam deploy --template-file deploy/template.yaml --stack-name "$stack" --region "$region" \
  --image-repository "$registry/$stack" --capabilities CAPABILITY_IAM \
  --no-confirm-changeset --no-fail-on-empty-changeset --parameter-overrides \
  "ServeImageUri=$registry/$stack:$version-serve" "TrainImageUri=$registry/$stack:$version-train" "$@"

echo "version $version"
output Request
output FunctionUrl
