#!/bin/sh
# An array on one machine: parts of the data, some at a time, and their merger.
#
#   examples/cluster/local.sh DATA SCORES [PARTS [AT_A_TIME [OPTIONS OF score...]]]
#
# Run it again after a failure: parts that are done stay, one that was stopped goes on.
# With GNU parallel: parallel -j 2 saefilter score DATA -o SCORES --part {}/8 --resume ::: $(seq 8)
set -eu
data=$1 scores=$2 parts=${3:-8} at_a_time=${4:-2}
shift "$(($# < 4 ? $# : 4))"

seq "$parts" | xargs -P "$at_a_time" -I '{}' \
    saefilter score "$data" -o "$scores" --part "{}/$parts" --resume --quiet "$@"

saefilter scores merge "${scores%.parquet}".part-*-of-"$parts".parquet -o "$scores"
