#!/usr/bin/env bash
# Build the images, print their sizes and try each: the two Lambda images behind their built-in emulator, alone and then
# together, one answering and the other training, with a bucket of a real S3 server; the local one as a server. Needs
# Docker and curl. Everything the containers answer comes from the sample prices.
#
#   deploy/build_images.sh [PYTHON_VERSION] [TORCH_INDEX_URL] [NETWORK]
#
#   PYTHON_VERSION    tag of the base images (default 3.12)
#   TORCH_INDEX_URL   pip's second index (default torch's CPU builds; '' for none)
#   NETWORK           network of the build steps (default: Docker's)
set -euo pipefail
cd "$(dirname "$0")/.."

python_version=${1:-3.12}
torch_index_url=${2-https://download.pytorch.org/whl/cpu}
network=${3:-default}
name=lstm-api
largest_share=40 # percent of the train image that the serve image may be
patience_s=90

build() { # TAG, then docker build's options
  echo "building $name:$1"
  docker build --quiet --network "$network" --build-arg "PYTHON_VERSION=$python_version" --tag "$name:$1" "${@:2}" . >/dev/null
}

build_cloud() { # what stands in for AWS: Ceph's S3 gateway, and Lambda's front door (tests/aws/cloud.py)
  echo "building $name:cloud"
  docker build --quiet --network "$network" --tag "$name:cloud" - >/dev/null <<DOCKER
FROM python:$python_version-slim
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr
RUN python3 -m pip install --quiet --root-user-action=ignore --no-cache-dir $(grep ^boto3== requirements/serve.txt)
WORKDIR /project
DOCKER
}

size() { docker image inspect --format '{{.Size}}' "$1"; }

# A published port on loopback that Docker chose. Every container started here is removed when the script ends.
containers=()
cloud_network=
clean_up() {
  [ ${#containers[@]} -eq 0 ] || docker rm --force --volumes "${containers[@]}" >/dev/null
  [ -z "$cloud_network" ] || docker network rm "$cloud_network" >/dev/null
}
trap clean_up EXIT
start() { # TAG PORT, then docker run's options: sets container and url
  container=$(docker run --detach --publish "127.0.0.1::$2" --env PRICE_SOURCE=sample "${@:3}" "$name:$1")
  containers+=("$container")
  url=http://$(docker port "$container" "$2/tcp" | head -n 1)
}

fail() {
  echo "FAILED: $1" >&2
  [ -z "${container:-}" ] || docker logs --tail 20 "$container" >&2
  exit 1
}

invoke() { # METHOD PATH [BODY] [QUERY]: the function's answer to a function-URL event
  local body=${3:-}
  curl --silent --show-error --max-time "$patience_s" --retry 20 --retry-delay 1 --retry-all-errors --noproxy '*' \
    "$url/2015-03-31/functions/function/invocations" --data-binary @- <<JSON
{"version": "2.0", "rawPath": "$2", "rawQueryString": "${4:-}", "isBase64Encoded": false,
 "headers": {"host": "localhost", "content-type": "application/json", "content-length": "${#body}"},
 "requestContext": {"http": {"method": "$1", "path": "$2", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}},
 "body": "${body//\"/\\\"}"}
JSON
}

expect_answer() { # METHOD PATH BODY, and what the answer must hold besides status 200
  local answer
  answer=$(invoke "$1" "$2" "$3") || fail "$1 $2: no answer"
  [[ $answer == *'"statusCode": 200'* || $answer == *'"statusCode":200'* ]] || fail "$1 $2: $answer"
  [[ $answer == *"$4"* ]] || fail "$1 $2 without $4: $answer"
  echo "  $1 $2: 200"
}

try_lambda() { # TAG
  echo "trying $name:$1"
  start "$1" 8080 --user 993:990 --read-only --tmpfs /tmp # as Lambda does it
  expect_answer GET /up '' ok
  expect_answer POST /predict "{\"prices\":[$(printf '%s,' $(seq 30 88))89]}" predicted_price
  expect_answer POST /predict/live '{"symbol":"^GSPC"}' predicted_price
  expect_answer POST /predict/forecast '{"symbol":"^GSPC","days":5}' forecast_days
  expect_answer POST /models/default/backtest '{"ticker":"^GSPC","start":"2018-06-01"}' opponents
  local from_source
  from_source=$(docker run --rm --entrypoint python3 "$name:$1" -v -c 'import app' 2>&1 \
    | grep -c '^# code object from /var/task/.*\.py$' || true) # bytecode would be told with quotes and .pyc
  [ "$from_source" -eq 0 ] || fail "import app compiles $from_source modules"
  echo "  import app: bytecode only"
}

field() { # NAME ANSWER: the value of that name in the JSON that is the body of an answer
  local plain=${2//\\\"/\"}
  sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" <<<"${plain%%\"headers\":*}"
}

try_training() { # the small function has the large one train, and forecasts with the model that comes of it
  echo "trying $name:serve with $name:train behind it, and a bucket"
  local ready=0 answer job model state last='' seen
  cloud_network=$(docker network create "$name-$$")
  local in_cloud=(--network "$cloud_network" --env S3_BUCKET_NAME=artifacts --env S3_ENDPOINT_URL=http://cloud:7480
    --env AWS_ENDPOINT_URL_LAMBDA=http://cloud:9001 --env TRAINER_FUNCTION_NAME=trainer --env AWS_DEFAULT_REGION=us-east-1
    --env AWS_ACCESS_KEY_ID=testaccesskey --env AWS_SECRET_ACCESS_KEY=testsecretkey
    --env AWS_LAMBDA_FUNCTION_TIMEOUT=900 --user 993:990 --read-only --tmpfs /tmp)
  container=$(docker run --detach --network "$cloud_network" --network-alias cloud --volume "$PWD/tests:/project/tests:ro" \
    "$name:cloud" python3 -m tests.aws.cloud trainer)
  containers+=("$container")
  until docker logs "$container" 2>&1 | grep -q ready; do
    [ $((ready += 1)) -le "$patience_s" ] || fail "no S3 server after $patience_s s"
    sleep 1
  done
  start train 8080 "${in_cloud[@]}" --network-alias trainer
  start serve 8080 "${in_cloud[@]}"

  answer=$(invoke POST /models/train '{"ticker":"^GSPC"}' async=true)
  job=$(field id "$answer") model=$(field model_id "$answer")
  [[ $job == 20* ]] || fail "POST /models/train: $answer"
  echo "  POST /models/train: job $job"
  while state=$(field state "$answer"); [ "$state" = queued ] || [ "$state" = running ]; do
    seen="$state, epoch $(field epoch "$answer")"
    [ "$seen" = "$last" ] || echo "  GET /jobs/$job: $seen"
    last=$seen
    sleep 0.5
    answer=$(invoke GET "/jobs/$job")
  done
  echo "  GET /jobs/$job: $state, epoch $(field epoch "$answer")"
  [ "$state" = succeeded ] || fail "the job: $answer"
  expect_answer POST "/models/$model/predict" '{"levels":[0.8,0.95]}' persistence
  expect_answer GET /models '' "$model"
}

has_torch() { # TAG: prints True or False
  docker run --rm --entrypoint python3 "$name:$1" -c "from importlib.util import find_spec; print(bool(find_spec('torch')))"
}

try_local() {
  echo "trying $name:local"
  start local 8000
  local waited=0 path
  until [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" = healthy ]; do
    [ $((waited += 1)) -le "$patience_s" ] || fail "not healthy after $patience_s s"
    sleep 1
  done
  echo "  healthy"
  for path in /up /docs; do
    curl --silent --fail --output /dev/null --noproxy '*' "$url$path" || fail "GET $path"
    echo "  GET $path: 200"
  done
  [ "$(docker exec "$container" id --user)" -ne 0 ] || fail "it runs as root"
  docker exec "$container" sh -c 'touch /data/probe && rm /data/probe' || fail "it cannot write to /data"
  echo "  not root, and may write to /data"
}

build serve --target serve
build train --target train --build-arg "TORCH_INDEX_URL=$torch_index_url"
build local --file Dockerfile.local --build-arg "TORCH_INDEX_URL=$torch_index_url"
build_cloud

base=$(size "public.ecr.aws/lambda/python:$python_version")
serve=$(size "$name:serve") train=$(size "$name:train")
printf '%-16s %7s\n' image MB
printf '%-16s %7d\n' 'Lambda base' $((base / 1000000)) serve $((serve / 1000000)) train $((train / 1000000)) \
  local $(($(size "$name:local") / 1000000))
share=$((1000 * serve / train)) # per mille
echo "serve is ${share%?}.${share: -1} % of train; above the base $((100 * (serve - base) / (train - base))) %"

try_lambda serve
try_lambda train
try_training
try_local
container=
[ "$(has_torch train)" = True ] || fail "the train image has no torch"
[ "$(has_torch serve)" = False ] || fail "the serve image has torch"
[ $((100 * serve)) -le $((largest_share * train)) ] || fail "serve is more than $largest_share % of train"
echo "all as expected"
