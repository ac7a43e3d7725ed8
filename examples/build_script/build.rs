//! Quantizes and compiles the demo's network; what it writes is `digits.qgraph` and `digits.rs` in cargo's `OUT_DIR`.

use qgraph_compiler::build;
use qgraph_compiler::lower::InputFormat;

fn main() {
    build::onnx("../../compiler/demo/digits.onnx", "ranges.json").batch(8).input(InputFormat::U8Nhwc).emit();
}
