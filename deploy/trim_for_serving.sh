#!/bin/sh
# Delete from a folder of installed packages what a process that only forecasts never reads.
#
#   sh trim_for_serving.sh FOLDER
set -eu
folder=$1

# botocore describes every service of AWS. Called are S3 and Lambda; the others are ways to come by credentials.
find "$folder/botocore/data" -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name lambda ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +

# ONNX Runtime's converters of models, and the library for programs in C: Python's extension module contains it.
cd "$folder/onnxruntime"
rm -r backend datasets quantization tools transformers capi/libonnxruntime.so.*

# What numpy builds extension modules with. Later Pythons have no distutils.
cd "$folder/numpy"
rm -rf distutils f2py
