//! What the macro says when it is given something else than a model: the span is the literal, all problems at once.

#[test]
fn errors_stand_where_they_belong() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
