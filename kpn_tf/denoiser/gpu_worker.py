"""The process behind `gpu`: one network on the GPU until standard input closes. Not for import."""

import os
import signal
import struct
import sys

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options

# As `kpn_tf.child_process.read_answer` reads it; this process starts without the package.
_REPLY = struct.Struct("<BI")


def _load(path):
    # Without enforce_f32 sums are taken in half precision (LiteRT #9249): an error of several HU.
    options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=True))
    model = CompiledModel.from_file(path, options=options)
    if not model.is_fully_accelerated():
        raise RuntimeError("Some ops are not accelerated")
    return model


def _serve(path, side, slices, requests, replies):
    def reply(status, payload=b""):
        replies.write(_REPLY.pack(status, len(payload)) + payload)
        replies.flush()

    try:
        model = _load(path)
        entrances, exit_ = model.create_input_buffers(0), model.create_output_buffers(0)
        # Of a stack's network the distances are the smaller input.
        sizes = [model.get_input_buffer_requirements(i)["buffer_size"] for i in range(len(entrances))]
        by_size = sorted(range(len(entrances)), key=lambda i: -sizes[i])
        lengths = [side * side * slices, slices][: len(entrances)]
        unwritten = np.full((1, side, side, 1), np.nan, np.float32)
    except Exception as error:
        return reply(1, str(error).encode())
    reply(0)
    expected = 4 * sum(lengths)
    while len(request := requests.read(expected)) == expected:
        try:
            # A run that fails unnoticed leaves the output as it was: no pixel of an earlier slice may be there.
            exit_[0].write(unwritten)
            parts = np.split(np.frombuffer(request, np.float32), lengths[:1])
            for i, part in zip(by_size, parts, strict=False):
                entrances[i].write(part)
            model.run_by_index(0, entrances, exit_)
            payload = np.asarray(exit_[0].read(unwritten.size, np.float32)).tobytes()
        except Exception as error:
            reply(1, str(error).encode())
        else:
            reply(0, payload)


if __name__ == "__main__":
    # Ctrl-C reaches the whole group of processes; this one ends when its parent closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Native code prints to standard output as well: the replies keep that pipe to themselves.
    pipe = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(pipe, "wb") as replies:
        _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdin.buffer, replies)
