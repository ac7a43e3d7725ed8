//! Empty: this package exists for its one test binary, `src/main.rs`, and the command line that it drives.
