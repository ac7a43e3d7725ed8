//! The proof that a plan touches only its own memory.

use super::Plan;
use crate::error::Problem;

/// All violations; empty for a valid plan. Every engine that uses unchecked accesses rests on this.
pub fn verify(plan: &Plan) -> Vec<Problem> {
    let _ = plan;
    panic!("stub")
}
