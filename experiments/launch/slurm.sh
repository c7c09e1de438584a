#!/bin/bash
#SBATCH --job-name=distilbert
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#
# sbatch experiments/launch/slurm.sh experiments/distilbert_base_uncased.py workdir=runs/distilbert
#
# Runs one process per node, with all GPUs of the node. Every node must see this folder. Two minutes before its time
# ends, the run saves a checkpoint, ends with status 143 and is requeued. After any other failure, such as a lost node,
# it is requeued three times at most. Wrong usage (status 2) is not requeued.
set -u
RETRIES=3
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export AT="$first:$((20000 + SLURM_JOB_ID % 10000))"

srun --kill-on-bad-exit=0 bash -c 'exec .venv/bin/python -m distilbert_jax distill "$@" --distributed "$SLURM_PROCID/$SLURM_NTASKS@$AT"' distill "$@"
status=$?

if [ $status -eq 143 ] || { [ $status -ne 0 ] && [ $status -ne 2 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt $RETRIES ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
