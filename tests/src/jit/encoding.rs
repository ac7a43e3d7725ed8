//! Machine code keeps to its target's instructions, also where this CPU cannot run it: all code of random networks is decoded.
//! And the CPU is seen as it is.

use crate::support::engines;
use crate::support::random_graph::random_graph;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, EncodingKind};
use qgraph_compiler::jit::{Code, Options};
use qgraph_compiler::lower;
use qgraph_compiler::target::{Isa, Target};
use qgraph_runtime::cpu;
use std::collections::BTreeSet;

/// General instructions, with MXCSR, prefetches, long no-operations and the time stamp counter.
const GENERAL: [CpuidFeature; 6] = {
    use CpuidFeature::*;
    [INTEL8086, INTEL386, X64, MULTIBYTENOP, SSE, TSC]
};

/// Vector instructions of a target.
fn allowed(target: &Target) -> Vec<CpuidFeature> {
    use CpuidFeature::*;
    match target.isa {
        Isa::Portable => vec![],
        Isa::Avx2 => vec![AVX, AVX2, FMA],
        Isa::AvxVnni => vec![AVX, AVX2, FMA, AVX_VNNI],
        // VEX: the end of upper halves (AVX) and moves to masks.
        Isa::Avx512Vnni => vec![AVX, AVX512F, AVX512BW, AVX512VL, AVX512_VNNI],
    }
}

#[test]
fn code_of_random_networks_keeps_to_the_target() {
    for target in Target::ALL.into_iter().filter(|t| t.needs().is_some()) {
        let allowed = allowed(&target);
        let mut seen: BTreeSet<CpuidFeature> = BTreeSet::new();
        for seed in 0..24 {
            let graph = random_graph(seed, 10);
            let plan = engines::plan(&graph, &target, &lower::Options::default());
            let threads = 1 + seed as usize % 3;
            let options = Options { vbmi: false, threads, profile: seed % 2 == 0, perf_map: false };
            let code = Code::assemble(&plan, &options).unwrap();
            for i in Decoder::new(64, code.bytes(), DecoderOptions::NONE) {
                assert!(!i.is_invalid(), "{target}, network {seed}: no instruction at {:#x}", i.ip());
                let evex = i.encoding() == EncodingKind::EVEX;
                assert!(!evex || target.isa == Isa::Avx512Vnni, "{target}, network {seed}: {i:?}");
                let features = i.cpuid_features();
                let known = |f| allowed.contains(f) || GENERAL.contains(f);
                assert!(features.iter().all(known), "{target}, network {seed}: {features:?} for {i:?}");
                seen.extend(features);
            }
        }
        let missing: Vec<_> = allowed.iter().filter(|f| !seen.contains(f)).collect();
        assert!(missing.is_empty(), "{target}: nothing uses {missing:?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn detection_agrees_with_the_standard_library() {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    assert_eq!(cpu::avx2(), avx2);
    assert_eq!(cpu::avx_vnni(), avx2 && is_x86_feature_detected!("avxvnni"));
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    let vnni = avx2 && avx512 && is_x86_feature_detected!("avx512vnni");
    assert_eq!(cpu::avx512_vnni(), vnni);
    assert_eq!(cpu::avx512_vbmi(), vnni && is_x86_feature_detected!("avx512vbmi"));
    let best = Target::detect();
    assert!(best.native() || best == Target::portable());
}
