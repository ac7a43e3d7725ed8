//! A file that is not there.

use qgraph_macros::quantized_model;

quantized_model!(pub Missing, "no/such.qgraph");

fn main() {
    let _ = quantized_model!("no/such.qgraph", batch = 4);
}
