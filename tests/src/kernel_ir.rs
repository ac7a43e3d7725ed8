//! The kernel IR: its text, what the verifier proves and rejects, expansion.

use qgraph_compiler::kernel::expand::expand;
use qgraph_compiler::kernel::verify::verify;
use qgraph_compiler::kernel::{
    Access, Addr, Affine, FlatInstr, FlatStmt, Instr, Kernel, KernelBuilder, Operand, Reg, Stmt,
};

/// y[6 pixels][2·lanes] = u8·i8 sums over 16 groups of 4 channels.
fn conv() -> Kernel {
    let mut b = KernelBuilder::new("conv_u8s8_6x32_avx512vnni", 16);
    let x = b.param("x", Access::Read);
    let w = b.param("w", Access::Read);
    let y = b.param("y", Access::Write);
    let (acc, ws, t) = (b.array("acc", 12), b.array("w", 2), b.array("t", 1));
    b.unroll(12, |b, i| b.op(Instr::Splat { dst: acc.at(i), bits: 0 }));
    b.loop_(16, [(x, 4), (w, 64)], |b| {
        b.unroll(2, |b, j| b.op(Instr::Load { dst: ws.at(j), src: Addr::new(w, j * 1024), bytes: 64 }));
        b.unroll(6, |b, k| {
            b.op(Instr::Broadcast32 { dst: t.at(0), src: Addr::new(x, k * 64) });
            b.unroll(2, |b, l| {
                b.op(Instr::Dot4 { acc: acc.at(k * 2 + l), u: t.at(0), s: ws.at(l).into() });
            });
        });
    });
    b.unroll(6, |b, m| {
        b.unroll(2, |b, n| {
            b.op(Instr::Store { dst: Addr::new(y, m * 128 + n * 64), src: acc.at(m * 2 + n), bytes: 64 });
        });
    });
    b.finish()
}

#[test]
fn footprint_is_the_exact_hull() {
    let f = verify(&conv(), 32).unwrap();
    assert_eq!(f.reads, [Some(0..5 * 64 + 15 * 4 + 4), Some(0..2048), None]);
    assert_eq!(f.writes, [None, None, Some(0..6 * 128)]);

    // Backwards, nested, with an offset, and a partial load at the far end only.
    let mut b = KernelBuilder::new("k", 4);
    let x = b.param("x", Access::ReadWrite);
    let t = b.array("t", 1);
    b.loop_(3, [(x, -100)], |b| {
        b.loop_(5, [(x, 7)], |b| {
            b.op(Instr::Load { dst: t.at(0), src: Addr::new(x, 10), bytes: 3 });
        });
        b.op(Instr::Prefetch { src: Addr::new(x, 1 << 20), far: true });
    });
    b.op(Instr::Store { dst: Addr::new(x, -1000), src: t.at(0), bytes: 1 });
    let f = verify(&b.finish(), 1).unwrap();
    assert_eq!(f.reads, [Some(-190..10 + 28 + 3)]);
    assert_eq!(f.writes, [Some(-1000..-999)]);
    assert_eq!(f.touched(0), Some(-1000..41));
}

#[test]
fn text() {
    assert_eq!(
        conv().to_string(),
        r"kernel conv_u8s8_6x32_avx512vnni(x: read, w: read, y: write)  lanes 16  registers acc[12] w[2] t[1]
  unroll i in 0..12 {
    acc[i] = splat(0x00000000)
  }
  loop 16 (x += 4, w += 64) {
    unroll j in 0..2 {
      w[j] = load([w + 1024*j], 64)
    }
    unroll k in 0..6 {
      t[0] = broadcast32([x + 64*k])
      unroll l in 0..2 {
        acc[2*k + l] = dot4(acc[2*k + l], t[0], w[l])
      }
    }
  }
  unroll m in 0..6 {
    unroll n in 0..2 {
      store([y + 128*m + 64*n], acc[2*m + n], 64)
    }
  }
"
    );
}

/// Applies `change` to the first statement (depth first) it accepts.
fn mutate(kernel: &mut Kernel, change: &dyn Fn(&mut Stmt) -> bool) {
    fn walk(body: &mut [Stmt], change: &dyn Fn(&mut Stmt) -> bool) -> bool {
        body.iter_mut().any(|s| {
            change(s)
                || match s {
                    Stmt::Loop { body, .. } | Stmt::Unroll { body, .. } => walk(body, change),
                    Stmt::Op(_) => false,
                }
        })
    }
    assert!(walk(&mut kernel.body, change), "the mutation found nothing to change");
}

/// `edit!(kernel, pattern, change)`: changes the first statement that matches.
macro_rules! edit {
    ($k:expr, $pattern:pat, $change:expr) => {
        mutate($k, &|s| {
            if let $pattern = s {
                $change;
                return true;
            }
            false
        })
    };
}

/// A mutation of [`conv`] and words of the complaint it must cause.
type Mutation = (&'static str, fn(&mut Kernel));

/// Register 0 of array 0.
fn r0() -> Reg {
    Reg { array: 0, index: Affine::constant(0) }
}

const STRUCTURE: &[Mutation] = &[
    ("5 lanes", |k| k.lanes = 5),
    ("33 registers needed", |k| k.arrays[0].len = 30),
    ("registers needed", |k| k.arrays[0].len = usize::MAX),
    ("is empty", |k| k.arrays[2].len = 0),
    ("extent of 0", |k| edit!(k, Stmt::Loop { extent, .. }, *extent = 0)),
    ("extent of 0", |k| edit!(k, Stmt::Unroll { extent, .. }, *extent = 0)),
    ("extent of", |k| edit!(k, Stmt::Loop { extent, .. }, *extent = usize::MAX)),
    ("extent of", |k| edit!(k, Stmt::Unroll { extent, .. }, *extent = usize::MAX)),
    ("moves x twice", |k| edit!(k, Stmt::Loop { advance, .. }, advance[1].0 = 0)),
    ("parameter 3 does not", |k| edit!(k, Stmt::Loop { advance, .. }, advance[0].0 = 3)),
    ("parameter 2 does not", |k| k.params.truncate(2)),
    ("array 2 does not", |k| k.arrays.truncate(2)),
    ("bound twice", |k| edit!(k, Stmt::Unroll { var: var @ 1, .. }, *var = 0)),
    ("outside its unroll", |k| edit!(k, Stmt::Unroll { var, .. }, *var = 77)),
    ("reaches 0..=12 of 12", |k| edit!(k, Stmt::Unroll { extent, .. }, *extent = 13)),
    ("reaches -1..=10", |k| edit!(k, Stmt::Op(Instr::Dot4 { acc, .. }), acc.index.base = -1)),
    ("more than", |k| {
        k.body = vec![Stmt::Unroll { var: 99, extent: 1 << 15, body: std::mem::take(&mut k.body) }];
    }),
    ("more than", |k| {
        let inner = vec![Stmt::Unroll { var: 99, extent: 1 << 31, body: vec![] }];
        k.body.push(Stmt::Unroll { var: 98, extent: 1 << 31, body: inner });
    }),
];

const MEMORY: &[Mutation] = &[
    ("too far", |k| edit!(k, Stmt::Loop { advance, .. }, advance[0].1 = i64::MIN)),
    ("too large", |k| edit!(k, Stmt::Op(Instr::Load { src, .. }), src.offset.base = i64::MIN)),
    ("too large", |k| edit!(k, Stmt::Op(Instr::Load { src, .. }), src.offset.terms[0].1 = i64::MAX)),
    ("declared `write`", |k| k.params[0].access = Access::Write),
    ("declared `read`", |k| k.params[2].access = Access::Read),
    ("declared `write`", |k| {
        k.body.push(Stmt::Op(Instr::AddI32 { dst: r0(), a: r0(), b: Addr::new(2, 0).into() }));
    }),
    ("declared `write`", |k| {
        k.body.push(Stmt::Op(Instr::Lookup8 { dst: r0(), src: r0(), table: Addr::new(2, 0) }));
    }),
    ("0 bytes", |k| edit!(k, Stmt::Op(Instr::Load { bytes, .. }), *bytes = 0)),
    ("65 bytes", |k| edit!(k, Stmt::Op(Instr::Load { bytes, .. }), *bytes = 65)),
    ("65 bytes", |k| edit!(k, Stmt::Op(Instr::Store { bytes, .. }), *bytes = 65)),
    ("17 bytes", |k| k.body.push(Stmt::Op(Instr::LoadU8 { dst: r0(), src: Addr::new(0, 0), count: 17 }))),
    ("0 bytes", |k| {
        k.body.push(Stmt::Op(Instr::Copy { dst: Addr::new(2, 0), src: Addr::new(0, 0), bytes: 0 }));
    }),
    ("overlapping", |k| {
        k.params[2].access = Access::ReadWrite;
        k.body.push(Stmt::Op(Instr::Copy { dst: Addr::new(2, 0), src: Addr::new(2, 63), bytes: 64 }));
    }),
    ("does not exist", |k| k.body.push(Stmt::Op(Instr::Prefetch { src: Addr::new(9, 0), far: false }))),
];

const REGISTERS: &[Mutation] = &[
    ("a shift by 32", |k| k.body.push(Stmt::Op(Instr::ShlI32 { dst: r0(), a: r0(), by: 32 }))),
    ("a shift by 16 of words", |k| k.body.push(Stmt::Op(Instr::ShlI16 { dst: r0(), a: r0(), by: 16 }))),
    ("a shift by 16 of words", |k| k.body.push(Stmt::Op(Instr::ShrI16 { dst: r0(), a: r0(), by: 16 }))),
    ("a shift by 99 of words", |k| k.body.push(Stmt::Op(Instr::ShrU16 { dst: r0(), a: r0(), by: 99 }))),
    ("r0 is read unwritten", |k| drop(k.body.remove(0))),
    ("r11 is read unwritten", |k| edit!(k, Stmt::Unroll { extent, .. }, *extent = 11)),
    // Moved behind its use, later iterations find it written, but not the first.
    ("r14 is read unwritten", |k| {
        mutate(k, &|s| match s {
            Stmt::Unroll { body, .. } if body.len() == 2 => {
                body.swap(0, 1);
                true
            }
            Stmt::Loop { .. } | Stmt::Unroll { .. } | Stmt::Op(_) => false,
        });
    }),
];

#[test]
fn every_broken_rule_is_rejected() {
    assert!(verify(&conv(), 15).is_ok());
    assert!(verify(&conv(), 14).unwrap_err().contains("15 registers needed"));
    for (i, (words, change)) in STRUCTURE.iter().chain(MEMORY).chain(REGISTERS).enumerate() {
        let mut k = conv();
        change(&mut k);
        match verify(&k, 32) {
            Ok(_) => panic!("mutation {i} ({words}) was accepted"),
            Err(e) => assert!(e.contains(words), "mutation {i}: expected `{words}` in: {e}"),
        }
    }
}

#[test]
fn a_register_written_in_a_loop_counts_after_it() {
    let mut b = KernelBuilder::new("k", 4);
    let y = b.param("y", Access::Write);
    let t = b.array("t", 1);
    b.loop_(1, [], |b| b.op(Instr::Splat { dst: t.at(0), bits: 7 }));
    b.op(Instr::Store { dst: Addr::new(y, 0), src: t.at(0), bytes: 16 });
    assert!(verify(&b.finish(), 1).is_ok());
}

#[test]
fn expansion_replaces_variables_and_numbers_registers() {
    let flat = expand(&conv());
    let ops = |wanted: fn(&FlatInstr) -> bool| {
        flat.body.iter().filter(|s| matches!(s, FlatStmt::Op(i) if wanted(i))).count()
    };
    assert_eq!(flat.registers, 15);
    assert_eq!(ops(|i| matches!(i, Instr::Dot4 { .. })), 12);
    assert_eq!(flat.body.len(), 12 + 1 + 2 + 6 * 3 + 1 + 12);
    // Pixel 5, second half.
    assert!(flat.body.contains(&FlatStmt::Op(Instr::Dot4 { acc: 11, u: 14, s: Operand::Reg(13) })));
    assert_eq!(
        *flat.body.last().unwrap(),
        FlatStmt::Op(Instr::Store { dst: (2, 5 * 128 + 64), src: 11, bytes: 64 })
    );
}
