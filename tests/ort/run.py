"""What ONNX Runtime, with all its optimizations, makes of models that a test has written.

usage: run.py DIR      needs: onnxruntime, numpy

Runs DIR/NAME.onnx on DIR/NAME.in0.npy, …, and writes DIR/NAME.out0.npy, ….
"""
import itertools, pathlib, sys
import numpy as np, onnxruntime as ort

for model in sorted(pathlib.Path(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)).glob("*.onnx")):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feeds = {i.name: np.load(model.with_suffix(f".in{k}.npy")) for k, i in enumerate(session.get_inputs())}
    for k, y in zip(itertools.count(), session.run(None, feeds)):
        np.save(model.with_suffix(f".out{k}.npy"), y)
