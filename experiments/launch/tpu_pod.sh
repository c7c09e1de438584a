#!/bin/bash
# TPU=my-pod ZONE=us-central1-a experiments/launch/tpu_pod.sh experiments/distilbert_base_uncased.py workdir=gs://bucket/runs/distilbert \
#     corpus.shard_dir=gs://bucket/shards
#
# Runs the same command on every host of a TPU pod slice, from any machine that has gcloud. Each host has this project
# in ~/distilbert_jax, installed with the extras tpu and storage. The hosts share a bucket, or a folder such as
# Filestore. After a failure, such as a lost host, the command is started again on all hosts and continues from the last
# checkpoint, RETRIES times at most.
set -u
RETRIES=${RETRIES:-3}
words=$(printf '%q ' "$@")

for attempt in $(seq 0 "$RETRIES"); do
    gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all \
        --command="cd distilbert_jax && exec .venv/bin/python -m distilbert_jax distill $words --distributed auto"
    status=$?
    if [ $status -eq 0 ] || [ $status -eq 2 ]; then
        exit $status
    fi
    echo "ended with $status, attempt $((attempt + 1)) of $((RETRIES + 1))" >&2
done
exit $status
