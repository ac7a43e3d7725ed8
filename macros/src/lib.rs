//! Reserved for `quantized_model!("model.qgraph")`, which will put a compiled network into the caller's
//! binary. The crate exports nothing yet; use `qgraph-compiler` to load a `.qgraph` file at run time.
