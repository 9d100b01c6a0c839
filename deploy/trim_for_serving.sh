#!/bin/sh
# Delete files that forecasting never reads from a folder of installed packages.
#
#   sh trim_for_serving.sh FOLDER
set -eu
folder=$1

# botocore's descriptions of AWS services. The program calls S3 and Lambda; the others provide credentials.
find "$folder/botocore/data" -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name lambda ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +

# ONNX Runtime's model converters, and its C library, which Python's extension module already contains.
cd "$folder/onnxruntime"
rm -r backend datasets quantization tools transformers capi/libonnxruntime.so.*

# uvicorn's parser: on Lambda, the application is called without a server.
rm -rf "$folder/httptools"

# numpy's tools to build extension modules; distutils is absent on Python 3.12 and later.
cd "$folder/numpy"
rm -rf distutils f2py
