//! Runs a plan with the kernel interpreter.
