//! Quantization: integer graphs against the float graphs they come from, operator by operator, rule by rule, and on random networks.

mod channels;
mod dynamic;
mod exported;
mod fallback;
mod net;
mod onnx;
mod operators;
mod options;
mod random;
mod rules;
