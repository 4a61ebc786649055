"""What is asked of a place, as POSIX shell scripts, and how their answers are read.

An answer is parts: a line "NAME BYTES MORE", and so many bytes. So whatever a file holds is never taken for anything
else, and what a login prints before the first part is passed over.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from qlora_studio.core.elsewhere.job_state import ACCOUNT_FIELDS, QUEUE_FORMAT

MARK = "qlora-studio-answers"
GONE, CHANGED = 3, 4  # exit codes of scripts: the folder is not there; the file is not as long as it was
REMOVED, CLOCK = "removed", "clock"  # parts: the run's folder was deleted; the seconds since the epoch there
_MOST_HEADER = 4096
_SUBMITTED = "elsewhere/submitted"  # what the scheduler answered, for whoever did not hear it
_JOB = re.compile(r"^([0-9]{1,20})(;\S+)?$", re.MULTILINE)
_PART = re.compile(rb"([A-Za-z0-9_./-]+) ([0-9]{1,18})((?: -?[0-9]+)*)")
_FUNCTIONS = """\
part() { printf '%s %s %s\\n' "$1" "$(($(printf %s "$2" | wc -c)))" "$3"; printf %s "$2"; }
file() {
  size=0; [ -f "$2" ] && size=$(($(wc -c < "$2")))
  n=$((size - $3)); [ "$n" -gt "$4" ] && n=$4; [ "$n" -lt 0 ] && n=0
  printf '%s %s %s\\n' "$1" "$n" "$size"
  [ "$n" -gt 0 ] && tail -c "+$(($3 + 1))" "$2" | head -c "$n"
}
"""


@dataclass(frozen=True)
class Part:
    """A part of an answer. `numbers` are what its line says besides: an exit code, a size."""

    name: str
    data: bytes
    numbers: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The part as text."""
        return self.data.decode("utf-8", "replace")


def answering(script: str) -> str:
    """Return a script whose answer begins where the mark stands: a login may print something before."""
    return f"umask 077; unset CDPATH\n{_FUNCTIONS}printf '%s\\n' {MARK}\n{script}"


def parts(answer: bytes) -> Iterator[Part]:
    """Yield the parts of an answer. Raises ValueError where it broke off, or is none."""
    _, mark, rest = answer.partition(f"{MARK}\n".encode())
    if not mark:
        raise ValueError("the shell there did not answer as it was asked")
    while rest:
        line, newline, rest = rest.partition(b"\n")
        found = _PART.fullmatch(line[:_MOST_HEADER].rstrip())
        if not newline or found is None or len(rest) < int(found[2]):
            raise ValueError("the answer broke off")
        size = int(found[2])
        yield Part(found[1].decode(), rest[:size], tuple(map(int, found[3].split())))
        rest = rest[size:]


def part_size(line: bytes) -> int:
    """Return how many bytes follow a part's line; less than none where it is no such line."""
    found = _PART.fullmatch(line.rstrip())
    return int(found[2]) if found else -1


def look(folder: str, job: str, offsets: tuple[int, int], limits: tuple[int, int]) -> str:
    """Return what asks how a job stands, and then for what is new in events.jsonl and worker.log.

    In this order: what was written before the scheduler called the job over is in the files then. A folder that is
    not there was removed where the one around it is there; else that one may only be away.
    """
    place, around = shlex.quote(folder), shlex.quote(str(PurePosixPath(folder).parent))
    return answering(
        f"""\
part {CLOCK} "" $(($(date +%s)))
q=$(squeue --noheader --states=all --jobs={job} --format={shlex.quote(QUEUE_FORMAT)} 2>&1); c=$?
part queue "$q" $c
case "$q" in *PENDING*|*RUNNING*) ;; *)
  part account "$(sacct --noheader --parsable2 --allocations --jobs={job} --format={ACCOUNT_FIELDS} 2>/dev/null)"
  part control "$(scontrol show job {job} 2>/dev/null)" ;;
esac
cd {place} || {{ [ -x {around} ] && [ ! -e {place} ] && part {REMOVED} "" && exit; exit {GONE}; }}
part output "$(tail -c 4000 elsewhere/slurm-{job}.log 2>/dev/null)"
file events events.jsonl {offsets[0]} {limits[0]}
file log worker.log {offsets[1]} {limits[1]}
:
"""
    )


def append(folder: str, name: str, added: int, size: int | None = None) -> str:
    """Return what appends its input, of `added` bytes, to a file there, whole or not at all: what a full disk took of
    it, or came before the connection broke off, is cut off again.

    Only where the file has `size` bytes, if that is given.
    """
    check = f'[ "$before" -eq {size} ] || exit {CHANGED}\n' if size is not None else ""
    return answering(
        f"""\
cd {shlex.quote(folder)} || exit {GONE}
touch {name} && before=$(($(wc -c < {name}))) || exit 1
{check}cat >> {name} && [ $(($(wc -c < {name}))) -eq $((before + {added})) ] \\
  || {{ dd if=/dev/null of={name} bs=1 seek="$before" 2>/dev/null; exit 1; }}
"""
    )


def receive(folder: str, name: str, size: int) -> str:
    """Return what writes its input, of `size` bytes, to a file in a folder there, and answers with how many came.

    The file is there whole or not at all: what breaks off, as whoever sends is ended, is removed.
    """
    place = shlex.quote(name)
    return answering(
        f"""\
cd {shlex.quote(folder)} || exit {GONE}
mkdir -p "$(dirname {place})" && cat > {place}.part || exit 1
n=$(($(wc -c < {place}.part)))
if [ "$n" -eq {size} ]; then mv {place}.part {place}; else rm -f {place}.part; fi || exit 1
part size "" "$n"
"""
    )


def make_folder(home: str, name: str) -> str:
    """Return what makes a run's folder in a place's folder and answers with that in full; it must not be there yet."""
    return answering(f'{_enter(home)}mkdir {shlex.quote(name)} || exit {CHANGED}\npart home "$(pwd -P)"\n')


def submit(folder: str) -> str:
    """Return what hands the job script to the scheduler."""
    return answering(
        f"cd {shlex.quote(folder)} || exit {GONE}\n"
        f"rm -f {_SUBMITTED}\n"
        "a=$(sbatch --parsable elsewhere/job.sh 2>&1); c=$?\n"
        f'[ $c -eq 0 ] && printf %s "$a" 2>/dev/null > {_SUBMITTED}\n'
        'part sbatch "$a" $c\n'
    )


def submitted(folder: str) -> str:
    """Return what asks for the scheduler's answer to `submit` where that was not heard; no part where there is none."""
    return answering(
        f'cd {shlex.quote(folder)} || exit {GONE}\n[ ! -s {_SUBMITTED} ] || part sbatch "$(cat {_SUBMITTED})" 0\n'
    )


def job_number(answer: list[Part]) -> str:
    """Return the job that the scheduler took, by its answer to `submit`; nothing where it names none."""
    found = _JOB.search(answer[0].text) if len(answer) == 1 and answer[0].numbers == (0,) else None
    return found[1] if found else ""


def missing(paths: Iterable[str]) -> str:
    """Return what answers with those of some paths that are not there, a part each."""
    return answering("".join(f"[ -e {word} ] || part path {word}\n" for word in map(_word, paths)) + ":\n")


def cancel(job: str) -> str:
    """Return what takes a job away from the scheduler."""
    return answering(f'a=$(scancel {job} 2>&1); c=$?; part scancel "$a" $c\n')


def remove_folder(home: str, name: str) -> str:
    """Return what removes a run's folder that was made and never used."""
    return answering(f"cd {shlex.quote(home)} || exit {GONE}\nrm -rf -- ./{shlex.quote(name)}\n")


def manifests(folder: str, limit: int) -> str:
    """Return what answers with the manifests of the checkpoints there."""
    return answering(
        f"""\
cd {shlex.quote(folder)} || exit {GONE}
for m in checkpoints/checkpoint-[0-9]*/manifest.json; do [ -f "$m" ] && file "$m" "$m" 0 {limit}; done
:
"""
    )


def files(folder: str, names: Iterable[str], limit: int) -> str:
    """Return what answers with files there, each a part; one that is larger than `limit` is cut."""
    asked = "".join(f"file file {shlex.quote('./' + name)} 0 {limit}\n" for name in names)
    return answering(f"cd {shlex.quote(folder)} || exit {GONE}\n{asked}:\n")


def check(folder: str, setup: str, program: str) -> str:
    """Return what asks a place for its program's version, its partitions and its folder."""
    return answering(
        f"""\
{_enter(folder)}part home "$(pwd -P)"
touch .qlora-studio-test && rm .qlora-studio-test; part writable "" $?
a=$(sinfo --noheader --format='%R|%a|%l|%D|%G' 2>&1); c=$?; part partitions "$a" $c
a=$({{
{setup}
{program} elsewhere about --json
}} 2>&1 </dev/null); c=$?; part about "$a" $c
"""
    )


def _enter(folder: str) -> str:
    """Return what goes into a place's folder, made where it is not there."""
    path = _word(folder)
    return f"cd && mkdir -p {path} && cd {path} || exit {GONE}\n"


def _word(path: str) -> str:
    """Return a path as a word of a script; a ~ is the home there."""
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)
