//! What the macro says when it is given something else than a model: the span is the literal, all problems at once.

use std::path::Path;

#[test]
fn errors_stand_where_they_belong() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/missing.rs");
    cases.compile_fail("tests/ui/arguments.rs");
    // Its paths lead out of the target folder.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target");
    if std::env::current_exe().is_ok_and(|exe| exe.starts_with(target)) {
        cases.compile_fail("tests/ui/wrong_files.rs");
    } else {
        println!("skipped: wrong_files.rs needs the target folder in the workspace");
    }
}
