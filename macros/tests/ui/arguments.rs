//! Options that do not exist or have no such value, and calls that are none.

use qgraph_macros::quantized_model;

quantized_model!(Wrong, "no.qgraph", targets = [avx1024, avx2, sse], batch = 0, input = bgr, colour = 3, batch = 2, code = "c");
quantized_model!();
quantized_model!(Name);
quantized_model!("no.qgraph", batch);
quantized_model!("no.qgraph", code = asm);
quantized_model!("no.qgraph", weights = external);

fn main() {}
