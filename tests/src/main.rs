//! Every test that sees more than one module, in one binary (one link, shared helpers).
//! Modules are named by what they hold fixed; see each one's first line.

mod assess;
mod build_script;
mod calibration;
mod cli;
mod cost;
mod data;
mod differential;
mod embed;
mod formats;
mod fusion;
mod given;
mod jit;
mod kernel_instr;
mod kernel_ir;
mod new_user;
mod onnx_import;
mod ort;
mod pillow;
mod plan_ir;
mod qgraph_file;
mod quantization;
mod real;
mod rust_backend;
mod support;
mod threads;
mod tidy;
mod tune;
