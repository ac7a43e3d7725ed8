//! ONNX import held against the format: every operator in every dialect, real models, shapes, and hostile files.

mod real;
