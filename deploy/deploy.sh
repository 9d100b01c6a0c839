#!/usr/bin/env bash
# Build both Lambda images, push them to ECR and deploy template.yaml. Asks nothing; prints the address at the end.
#
#   deploy/deploy.sh [PARAMETER=VALUE ...]
#
# The parameters are the template's; one not named keeps the value of the last deployment. From the environment:
#
#   AWS_REGION        where (default: the AWS profile's region)
#   STACK             name of the stack and of the ECR repository (default lstm-api)
#   IMAGE_VERSION     deploy these images, pushed before, instead of building; this is how to roll back
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
  [ ${#missing[@]} -eq 0 ] || fail "missing: ${missing[*]}. docs/deploy.md says where each comes from."
}

# The commit; with a hash of what was changed since, so that one version is always one content.
version_of_tree() {
  local commit
  commit=$(git rev-parse --short=12 HEAD)
  [ -n "$(git status --porcelain)" ] || { echo "$commit"; return; }
  { git diff HEAD --binary; git ls-files --others --exclude-standard -z | xargs -0 --no-run-if-empty sha256sum; } \
    | sha256sum | sed "s/^\(.\{8\}\).*/$commit-\1/"
}

pushed() { # TAG: is there such an image?
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
  if pushed "$tag"; then
    echo "$tag is pushed already"
    return
  fi
  echo "building and pushing $tag"
  # Lambda takes a single image: no attestation, which would make it an index. BuildKit adds one unless told otherwise.
  BUILDX_NO_DEFAULT_ATTESTATIONS=1 docker build --platform linux/amd64 --target "$1" \
    --build-arg "TORCH_INDEX_URL=${TORCH_INDEX_URL-https://download.pytorch.org/whl/cpu}" \
    --tag "$registry/$stack:$tag" .
  docker push "$registry/$stack:$tag"
}

output() { # NAME of an output of the stack
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
[ -n "$region" ] || fail "no region: export AWS_REGION=us-east-1, say"
account=$(aws sts get-caller-identity --region "$region" --query Account --output text)
registry=$account.dkr.ecr.$region.amazonaws.com
version=${IMAGE_VERSION:-$(version_of_tree)}

if [ -n "${IMAGE_VERSION:-}" ]; then
  for target in serve train; do
    pushed "$version-$target" || fail "no image $version-$target in the ECR repository $stack"
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
