use qgraph_macros::quantized_model;

quantized_model!(Onnx, "../compiler/demo/digits.onnx");
quantized_model!(Pointer, "tests/ui/files/pointer.qgraph");
quantized_model!(Damaged, "tests/ui/files/damaged.qgraph");
quantized_model!(Newer, "tests/ui/files/newer.qgraph");

fn main() {}
