//! The k-step of dense convolutions where dots take words ([`Dot::Words`]).
//!
//! The four bytes of a dword are split into even and odd ones, each a word: the input's by a mask and a shift, the weights' by shifts that keep
//! the sign. A dot of the even words and one of the odd words are together exactly the dot of the bytes. All pixels share the split of a
//! weight vector, all vectors the split of an input. Doing the even halves of the whole tile first, then the odd ones, needs registers for one
//! half only; what is loaded twice costs no arithmetic.

use super::kernel::{Spec, Tile};
use crate::kernel::{Addr, Affine, Instr, KernelBuilder};
use crate::lower::epilogue::{Common, common};

impl Spec<'_> {
    /// One k-step at offsets of x and w.
    pub(super) fn step_of_words(&self, b: &mut KernelBuilder, t: &Tile, (x, w): (Affine, Affine)) {
        let bytes = self.target.vector_bytes();
        let input = &t.input;
        for even in [true, false] {
            for v in 0..self.vectors {
                let weight = t.weights.at(v);
                b.op(Instr::Load { dst: weight.clone(), src: self.weight(t, &w, v), bytes });
                if even {
                    b.op(Instr::ShlI16 { dst: weight.clone(), a: weight.clone(), by: 8 });
                }
                b.op(Instr::ShrI16 { dst: weight.clone(), a: weight, by: 8 });
            }
            b.unroll(self.pixels, |b, p| {
                let src = Addr::new(t.x, p * self.x_step + x.clone());
                b.op(Instr::Broadcast32 { dst: input.clone(), src });
                b.op(if even {
                    let mask = common(self.target, t.c, Common::EvenBytes).into();
                    Instr::And { dst: input.clone(), a: input.clone(), b: mask }
                } else {
                    Instr::ShrU16 { dst: input.clone(), a: input.clone(), by: 8 }
                });
                b.unroll(self.vectors, |b, v| {
                    let acc = t.acc.at(p * self.vectors + v);
                    b.op(Instr::Dot2 { acc, a: input.clone(), b: t.weights.at(v).into() });
                });
            });
        }
    }
}
