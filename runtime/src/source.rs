//! The source of this crate, for compilers that put it into what they generate.

/// Every file that is not a test: its module's path (`""` for the crate, `functions/lrn` for a submodule), and its text.
pub const FILES: [(&str, &str); 21] = [
    ("", include_str!("lib.rs")),
    ("blob", include_str!("blob.rs")),
    ("cpu", include_str!("cpu.rs")),
    ("functions", include_str!("functions/mod.rs")),
    ("functions/lookup", include_str!("functions/lookup.rs")),
    ("functions/lrn", include_str!("functions/lrn.rs")),
    ("functions/peak", include_str!("functions/peak.rs")),
    ("functions/resize", include_str!("functions/resize.rs")),
    ("functions/softmax", include_str!("functions/softmax.rs")),
    ("functions/unary", include_str!("functions/unary.rs")),
    ("machine", include_str!("machine.rs")),
    ("math", include_str!("math.rs")),
    ("model", include_str!("model.rs")),
    ("pool", include_str!("pool.rs")),
    ("requant", include_str!("requant.rs")),
    ("vector", include_str!("vector/mod.rs")),
    ("vector/avx2", include_str!("vector/avx2.rs")),
    ("vector/avx512vnni", include_str!("vector/avx512vnni.rs")),
    ("vector/avxvnni", include_str!("vector/avxvnni.rs")),
    ("vector/portable", include_str!("vector/portable.rs")),
    ("weights", include_str!("weights.rs")),
];
