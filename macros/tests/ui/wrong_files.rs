//! Files that are no model of this version. (Paths lead from where trybuild puts this package.)

use qgraph_macros::quantized_model;

quantized_model!(Onnx, "../../../../compiler/demo/digits.onnx");
quantized_model!(Pointer, "../../../../macros/tests/ui/files/pointer.qgraph");
quantized_model!(Damaged, "../../../../macros/tests/ui/files/damaged.qgraph");
quantized_model!(Corrupt, "../../../../macros/tests/ui/files/corrupt.qgraph");
quantized_model!(Newer, "../../../../macros/tests/ui/files/newer.qgraph");

fn main() {}
