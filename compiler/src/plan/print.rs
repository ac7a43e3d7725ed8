//! Text of a plan.
