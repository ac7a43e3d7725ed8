//! x86-64 machine code from a plan.

use crate::error::Result;
use crate::plan::Plan;

/// Compiles a plan.
pub fn compile(plan: &Plan) -> Result<()> {
    let _ = plan;
    panic!("stub")
}
