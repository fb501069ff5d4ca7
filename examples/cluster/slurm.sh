#!/bin/bash
# A Slurm job array: each task scores one part of the data on a GPU of its own.
#
#   job=$(sbatch --parsable examples/cluster/slurm.sh DATA SCORES)
#   sbatch --dependency=afterok:$job --wrap \
#       'saefilter scores merge data.scores.part-*-of-8.parquet -o data.scores.parquet'
#
# The same command again does what is missing. For some tasks alone say how many parts there are:
#   PARTS=8 sbatch --array=3,5 examples/cluster/slurm.sh DATA SCORES
#
#SBATCH --job-name=saefilter
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
# two minutes before the time is up: the shard at hand is finished, and the task may be run again
#SBATCH --signal=B:TERM@120
set -eu
data=$1 scores=$2
shift 2

# exec, so that the signal reaches saefilter and not a shell that waits for it
exec saefilter score "$data" -o "$scores" \
    --part "$SLURM_ARRAY_TASK_ID/${PARTS:-$SLURM_ARRAY_TASK_COUNT}" --resume --quiet "$@"
