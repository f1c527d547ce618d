"""Many short jobs in forked processes, which may crash or hang."""
import json
import os
import select
import signal
import time


def run(jobs, work, seconds=60, processes=2):
    """What ``work`` makes of each job, in order; the string 'hangs' (after so
    many seconds) or 'killed by SIGNAL' where it made nothing.

    ``work`` returns what JSON can hold. It is called in forks of this
    process, so many at a time, whose output is thrown away.
    """
    results = [None] * len(jobs)
    waiting = [list(range(i, len(jobs), processes)) for i in range(processes)]
    running = {}
    for share in waiting:
        _start(share, jobs, work, running)
    while running:
        ready = select.select(list(running), [], [], 0.2)[0]
        for pipe in list(running):
            child = running[pipe]
            if pipe in ready:
                _collect(pipe, child, results)
            elif time.monotonic() - child['since'] > seconds:
                os.kill(child['pid'], signal.SIGKILL)
                child['end'] = 'hangs'
            if child['end'] is None:
                continue
            os.close(pipe)
            del running[pipe]
            status = os.waitpid(child['pid'], 0)[1]
            share = child['share']
            if share:  # it did not reach the last one
                code = os.waitstatus_to_exitcode(status)
                results[share.pop(0)] = (
                    child['end'] or f'killed by {signal.Signals(-code).name}'
                    if code < 0 else f'ended with {code}')
                _start(share, jobs, work, running)
    return results


def _start(share, jobs, work, running):
    if not share:
        return
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            for index in share:
                line = json.dumps([index, work(jobs[index])]) + '\n'
                os.write(writing, line.encode())
        finally:
            os._exit(0)
    os.close(writing)
    running[reading] = dict(
        pid=pid, share=share, since=time.monotonic(), text=b'', end=None)


def _collect(pipe, child, results):
    """Take what a process has written; its end of the pipe may be closed."""
    block = os.read(pipe, 1 << 16)
    if not block:
        child['end'] = ''
    *lines, child['text'] = (child['text'] + block).split(b'\n')
    for line in lines:
        index, result = json.loads(line)
        results[index] = result
        child['share'].remove(index)
        child['since'] = time.monotonic()
