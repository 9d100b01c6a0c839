#!/usr/bin/env bash
# Build the images, print their sizes and try each. The two Lambda images run behind their built-in emulator, first alone,
# then together (one serves, the other trains) with a bucket of a real S3 server. The local image runs as a server.
# Needs Docker and curl. All forecasts come from the sample prices.
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
timeout_s=90

build() { # TAG, then docker build's options
  echo "building $name:$1"
  docker build --quiet --network "$network" --build-arg "PYTHON_VERSION=$python_version" --tag "$name:$1" "${@:2}" . >/dev/null
}

build_cloud() { # stands in for AWS: Ceph's S3 gateway and Lambda's Invoke API (tests/aws/cloud.py)
  echo "building $name:cloud"
  docker build --quiet --network "$network" --tag "$name:cloud" - >/dev/null <<DOCKER
FROM python:$python_version-slim
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr
RUN python3 -m pip install --quiet --root-user-action=ignore --no-cache-dir $(grep --only-matching "^boto3==[0-9.]*" requirements/serve.txt)
WORKDIR /project
DOCKER
}

size() { docker image inspect --format '{{.Size}}' "$1"; }

# Each container gets a port on loopback that Docker chooses, and is removed when the script ends.
containers=()
cloud_network=
clean_up() {
  [ ${#containers[@]} -eq 0 ] || docker rm --force --volumes "${containers[@]}" >/dev/null
  [ -z "$cloud_network" ] || docker network rm "$cloud_network" >/dev/null
}
trap clean_up EXIT
start() { # TAG PORT COMMAND, then docker run's options; '' is the image's own command. Sets container and url
  container=$(docker run --detach --publish "127.0.0.1::$2" --env PRICE_SOURCE=sample --env OPEN=yes "${@:4}" "$name:$1" ${3:+"$3"})
  containers+=("$container")
  url=http://$(docker port "$container" "$2/tcp" | head -n 1)
}

fail() {
  echo "FAILED: $1" >&2
  [ -z "${container:-}" ] || docker logs --tail 20 "$container" >&2
  exit 1
}

invoke() { # METHOD PATH [BODY] [QUERY]: prints the function's response to a function-URL event
  local body=${3:-}
  curl --silent --show-error --max-time "$timeout_s" --retry 20 --retry-delay 1 --retry-all-errors --noproxy '*' \
    "$url/2015-03-31/functions/function/invocations" --data-binary @- <<JSON
{"version": "2.0", "rawPath": "$2", "rawQueryString": "${4:-}", "isBase64Encoded": false,
 "headers": {"host": "localhost", "content-type": "application/json", "content-length": "${#body}"},
 "requestContext": {"http": {"method": "$1", "path": "$2", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}},
 "body": "${body//\"/\\\"}"}
JSON
}

expect() { # METHOD PATH BODY TEXT: fails unless the status is 200 and the response contains TEXT
  local response
  response=$(invoke "$1" "$2" "$3") || fail "$1 $2: no response"
  [[ $response =~ \"statusCode\":\ ?200 ]] || fail "$1 $2: $response"
  [[ $response == *"$4"* ]] || fail "$1 $2 without $4: $response"
  echo "  $1 $2: 200"
}

try_lambda() { # TAG
  echo "trying $name:$1"
  start "$1" 8080 '' --user 993:990 --read-only --tmpfs /tmp # as on Lambda
  expect GET /up '' ok
  expect POST /predict "{\"prices\":[$(printf '%s,' $(seq 30 88))89]}" predicted_price
  expect POST /predict/live '{"symbol":"^GSPC"}' predicted_price
  expect POST /predict/forecast '{"symbol":"^GSPC","days":5}' forecast_days
  expect POST /models/default/backtest '{"ticker":"^GSPC","start":"2018-06-01"}' baselines
  local from_source
  from_source=$(docker run --rm --entrypoint python3 "$name:$1" -v -c 'import app' 2>&1 \
    | grep -c '^# code object from /var/task/.*\.py$' || true)
  [ "$from_source" -eq 0 ] || fail "import app compiles $from_source modules"
  echo "  import app: bytecode only"
}

field() { # NAME RESPONSE: prints the value of that name in the response's JSON body
  local plain=${2//\\\"/\"}
  sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" <<<"${plain%%\"headers\":*}"
}

try_training() { # `serve` submits a training, `train` runs it, `serve` forecasts with the new model
  echo "trying $name:serve with $name:train behind it, and a bucket"
  local waited=0 response job model state last='' seen
  cloud_network=$(docker network create "$name-$$")
  local in_cloud=(--network "$cloud_network" --env S3_BUCKET_NAME=artifacts --env S3_ENDPOINT_URL=http://cloud:7480
    --env AWS_ENDPOINT_URL_LAMBDA=http://cloud:9001 --env TRAINER_FUNCTION_NAME=trainer --env AWS_DEFAULT_REGION=us-east-1
    --env AWS_ACCESS_KEY_ID=testaccesskey --env AWS_SECRET_ACCESS_KEY=testsecretkey
    --env AWS_LAMBDA_FUNCTION_TIMEOUT=900 --user 993:990 --read-only --tmpfs /tmp)
  container=$(docker run --detach --network "$cloud_network" --network-alias cloud --volume "$PWD/tests:/project/tests:ro" \
    "$name:cloud" python3 -m tests.aws.cloud trainer)
  containers+=("$container")
  until docker logs "$container" 2>&1 | grep -q ready; do
    [ $((waited += 1)) -le "$timeout_s" ] || fail "no S3 server after $timeout_s s"
    sleep 1
  done
  start train 8080 worker.handler "${in_cloud[@]}" --network-alias trainer
  start serve 8080 '' "${in_cloud[@]}"

  response=$(invoke POST /models/train '{"ticker":"^GSPC"}' async=true)
  job=$(field id "$response") model=$(field model_id "$response")
  [[ $job == 20* ]] || fail "POST /models/train: $response"
  echo "  POST /models/train: job $job"
  while state=$(field state "$response"); [ "$state" = queued ] || [ "$state" = running ]; do
    seen="$state, epoch $(field epoch "$response")"
    [ "$seen" = "$last" ] || echo "  GET /jobs/$job: $seen"
    last=$seen
    sleep 0.5
    response=$(invoke GET "/jobs/$job")
  done
  echo "  GET /jobs/$job: $state, epoch $(field epoch "$response")"
  [ "$state" = succeeded ] || fail "the job: $response"
  expect POST "/models/$model/predict" '{"levels":[0.8,0.95]}' persistence
  expect GET /models '' "$model"
}

has_torch() { # TAG: prints True or False
  docker run --rm --entrypoint python3 "$name:$1" -c "from importlib.util import find_spec; print(bool(find_spec('torch')))"
}

post() { # PATH BODY, to the local image
  curl --silent --fail --output /dev/null --max-time "$timeout_s" --noproxy '*' --header 'Content-Type: application/json' \
    --data "$2" "$url$1" || fail "POST $1"
  echo "  POST $1: 200"
}

try_local() {
  echo "trying $name:local"
  start local 8000 ''
  local waited=0 path
  until [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" = healthy ]; do
    [ $((waited += 1)) -le "$timeout_s" ] || fail "not healthy after $timeout_s s"
    sleep 1
  done
  echo "  healthy"
  for path in /up /docs; do
    curl --silent --fail --output /dev/null --noproxy '*' "$url$path" || fail "GET $path"
    echo "  GET $path: 200"
  done
  [ "$(docker exec "$container" id --user)" -ne 0 ] || fail "the process runs as root"
  docker exec "$container" sh -c 'touch /data/probe && rm /data/probe' || fail "the process cannot write to /data"
  echo "  not root, can write to /data"
  post /models/train '{"ticker":"^GSPC","start_date":"2016-01-04"}' # by worker processes, unlike short requests
  post /models/default/backtest '{"ticker":"^GSPC","start":"2001-01-02"}'
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
