#!/bin/bash
# Stands in for sbatch, squeue and scancel, by the name that it is called by. It says what slurm-wlm 22.05 said in the
# journey. $SLURM_STAND_IN holds a file for each job with its state, and what a test puts there:
# `hold` keeps jobs waiting, `down` has the controller away, `refuse` has sbatch take nothing.
cd "$SLURM_STAND_IN" || exit 1
if [ -e down ]; then
    echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
case "$(basename "$0")" in
sbatch)
    if [ -e refuse ]; then
        echo "sbatch: error: invalid partition specified: nowhere" >&2
        echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
        exit 1
    fi
    job=$(($(cat last 2>/dev/null || echo 41) + 1))
    echo $job >last
    echo PENDING >$job
    script=$OLDPWD/$2
    {
        while [ -e hold ] && [ "$(cat $job)" = PENDING ]; do sleep 0.1; done
        if [ "$(cat $job)" = PENDING ]; then
            echo RUNNING >$job
            bash "$script" >"$(dirname "$script")/slurm-$job.log" 2>&1 && ended=COMPLETED || ended=FAILED
            [ "$(cat $job)" = RUNNING ] && echo $ended >$job
        fi
    } </dev/null >/dev/null 2>&1 &
    echo $job
    ;;
squeue)
    job=$(printf '%s\n' "$@" | sed -n 's/^--jobs=//p')
    if [ ! -e "$job" ]; then
        echo "slurm_load_jobs error: Invalid job id specified" >&2
        exit 1
    fi
    case "$(cat $job)" in
    PENDING) echo "PENDING|$([ -e hold ] && echo JobHeldUser || echo None)||30:00" ;;
    *) echo "$(cat $job)|None|n1|30:00" ;;
    esac
    ;;
scancel) echo CANCELLED >"$1" ;;
esac
