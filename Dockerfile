# The AWS Lambda function, in two sizes:
#
#   docker build -t lstm-api .                         trains and forecasts
#   docker build -t lstm-api:serve --target serve .    only forecasts: no torch, no scipy, a fraction of the size
#
# In the two-function stack (deploy/template.yaml), the training function runs the command worker.handler instead.
#
# Python 3.12 or later: the glibc of the 3.11 base image is older than the wheels of torch and numpy require.
# The base is a tag, not a digest, so that each build gets AWS's current security updates. For repeatable builds, pass
# BASE_IMAGE with a digest.
ARG PYTHON_VERSION=3.12
ARG BASE_IMAGE=public.ecr.aws/lambda/python:${PYTHON_VERSION}

FROM ${BASE_IMAGE} AS serve-packages
COPY deploy/install_packages.sh deploy/trim_for_serving.sh requirements/serve.txt requirements/page.txt /build/
RUN sh /build/install_packages.sh /build/serve.txt /packages --no-deps --require-hashes \
 && sh /build/install_packages.sh /build/page.txt /packages --no-deps --require-hashes \
 && sh /build/trim_for_serving.sh /packages

FROM ${BASE_IMAGE} AS function
ENV ORT_DISABLE_TELEMETRY=1 PRICE_SOURCE=yahoo
# What .dockerignore lets in.
COPY . ${LAMBDA_TASK_ROOT}/
# Lambda runs the function as its own user, who must be able to read everything.
RUN chmod -R a+rX "${LAMBDA_TASK_ROOT}" \
 && python3 -m compileall -q --invalidation-mode unchecked-hash "${LAMBDA_TASK_ROOT}"
CMD ["app.handler"]

# Packages go into the task's folder: in site-packages, the runtime's own boto3 would come first.
FROM function AS serve
COPY --from=serve-packages /packages ${LAMBDA_TASK_ROOT}

FROM ${BASE_IMAGE} AS train-packages
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY deploy/install_packages.sh requirements.txt requirements/page.txt /build/
RUN sh /build/install_packages.sh /build/requirements.txt /packages \
 && sh /build/install_packages.sh /build/page.txt /packages --no-deps --require-hashes

FROM function AS train
COPY --from=train-packages /packages ${LAMBDA_TASK_ROOT}
