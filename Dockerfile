# The AWS Lambda function, in two sizes.
#
#   docker build -t lstm-api .                         trains and forecasts
#   docker build -t lstm-api:serve --target serve .    only forecasts: no torch, no scipy, a fraction of the size
#
# Python 3.12 or later: the base image of 3.11 has a glibc older than the wheels of torch and numpy ask for.
# The base is named by tag, not by digest: AWS mends its system packages under the same tag, and a digest written down
# here would keep their holes. For builds that repeat exactly, pass BASE_IMAGE with the digest you have tried.
ARG PYTHON_VERSION=3.12
ARG BASE_IMAGE=public.ecr.aws/lambda/python:${PYTHON_VERSION}

FROM ${BASE_IMAGE} AS serve-packages
COPY deploy/install_packages.sh deploy/trim_for_serving.sh requirements/serve.txt requirements/page.txt /build/
RUN sh /build/install_packages.sh /build/serve.txt /packages --no-deps \
 && sh /build/install_packages.sh /build/page.txt /packages --no-deps --require-hashes \
 && sh /build/trim_for_serving.sh /packages

FROM ${BASE_IMAGE} AS function
ENV ORT_DISABLE_TELEMETRY=1 PRICE_SOURCE=yahoo
COPY *.py ${LAMBDA_TASK_ROOT}/
COPY models ${LAMBDA_TASK_ROOT}/models
COPY routers ${LAMBDA_TASK_ROOT}/routers
COPY schemas ${LAMBDA_TASK_ROOT}/schemas
COPY services ${LAMBDA_TASK_ROOT}/services
COPY telemetry ${LAMBDA_TASK_ROOT}/telemetry
COPY web ${LAMBDA_TASK_ROOT}/web
# Lambda runs the function as a user of its own, who must be able to read everything.
RUN chmod -R a+rX "${LAMBDA_TASK_ROOT}" \
 && python3 -m compileall -q --invalidation-mode unchecked-hash "${LAMBDA_TASK_ROOT}"
CMD ["app.handler"]

# Packages go beside the application, not into site-packages: there the runtime's own boto3 would come first.
FROM function AS serve
COPY --from=serve-packages /packages ${LAMBDA_TASK_ROOT}

FROM ${BASE_IMAGE} AS train-packages
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY deploy/install_packages.sh requirements.txt requirements/page.txt /build/
RUN sh /build/install_packages.sh /build/requirements.txt /packages \
 && sh /build/install_packages.sh /build/page.txt /packages --no-deps --require-hashes

FROM function AS train
COPY --from=train-packages /packages ${LAMBDA_TASK_ROOT}
