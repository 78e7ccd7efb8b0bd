#!/usr/bin/env bash
# Asks a running server what it offers, whether it is ready, and for one answer, by reflection alone.
#
#   clover-rl serve demo &
#   examples/grpcurl.sh [HOST:PORT] [MODEL] [INPUT] [FEATURES]
set -euo pipefail
address=${1:-127.0.0.1:8001} model=${2:-digits} input=${3:-image} features=${4:-64}
service=inference.GRPCInferenceService

grpcurl -plaintext "$address" list
grpcurl -plaintext "$address" grpc.health.v1.Health/Check
grpcurl -plaintext "$address" "$service/ServerReady"

numbers=$(printf '0.5,%.0s' $(seq "$features"))
grpcurl -plaintext -max-time 5 -d @ "$address" "$service/ModelInfer" <<JSON
{
  "model_name": "$model",
  "inputs": [{
    "name": "$input", "datatype": "FP32", "shape": [1, $features],
    "contents": {"fp32_contents": [${numbers%,}]}
  }]
}
JSON
