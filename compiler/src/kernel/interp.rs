//! The definition of what a kernel means: one instruction at a time, on any machine, for any lane count.
