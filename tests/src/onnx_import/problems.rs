//! Everything wrong with a model is said at once, and nothing that only follows from it.

use super::*;

#[test]
fn all_unsupported_operators_at_once() {
    let mut model = Model::new(13)
        .input("x", &[1, 3, 4, 4])
        .node("LSTM", &["x"], &["a"], &[])
        .named("first")
        .node("Relu", &["a"], &["b"], &[])
        .node("Einsum", &["b"], &["c"], &[])
        .node("Conv", &["x", "missing"], &["d"], &[])
        .named("second")
        .node("FusedConv", &["x"], &["e"], &[])
        .named("third")
        .node("QuantizeLinear", &["x"], &["f"], &[])
        .named("fourth")
        .node("Sum", &["c", "d", "e", "f"], &["y"], &[])
        .output("y")
        .floats("bad", &[2], &[f32::NAN, 1.0]);
    model.graph().node[4].domain = "com.microsoft".into();
    let error = import_bytes(&model.bytes(), &Options::default()).unwrap_err();
    let said: Vec<_> = error.problems.iter().map(|p| format!("{}: {}", p.subject, p.message)).collect();
    assert_eq!(
        said,
        [
            "first (LSTM): recurrent networks are not supported",
            "node 2 (Einsum, giving \"c\"): this operator is not supported",
            "second (Conv): reads \"missing\", which no earlier node computes: sort the model, or export it again",
            "third (FusedConv): operators of the domain \"com.microsoft\" are not supported: export the model without \
             ONNX Runtime's graph optimizations",
            "fourth (QuantizeLinear): has no scale (input 1)",
        ]
    );
    assert!(error.to_string().starts_with("import: 5 problems\n"), "{error}");
}

#[test]
fn results_that_are_not_supported() {
    let model = Model::new(9).input("x", &[2]).node("Dropout", &["x"], &["y", "mask"], &[]).output("y");
    gives(model.clone(), &["%y [2] = dropout (%x)"]);
    refuses(model.output("mask"), &["output 1 (\"mask\")"]);
}

#[test]
fn damaged_weights_name_their_tensor() {
    for bad in [f32::NAN, f32::INFINITY] {
        let model = one(13, "Add", &["x", "c"], &[]).input("x", &[2]).floats("c", &[2], &[1.0, bad]);
        refuses(model, &["\"c\"", &bad.to_string()]);
    }
    let mut short = one(13, "Add", &["x", "c"], &[]).input("x", &[2]).floats("c", &[2], &[1.0, 2.0]);
    short.graph().initializer[0].dims = vec![3];
    refuses(short, &["c: [3] promises 3 elements, but there are 2"]);
    let empty = one(13, "Add", &["x", "c"], &[]).input("x", &[1]).floats("c", &[0], &[]);
    refuses(empty, &["\"c\"", "empty"]);
}

#[test]
fn broken_order_and_double_definitions() {
    let model = Model::new(13)
        .input("x", &[2])
        .node("Relu", &["late"], &["y"], &[])
        .node("Tanh", &["x"], &["late"], &[])
        .output("y");
    refuses(model, &["\"late\"", "sort"]);
    let twice = Model::new(13)
        .input("x", &[2])
        .node("Relu", &["x"], &["y"], &[])
        .node("Tanh", &["x"], &["y"], &[])
        .output("y");
    refuses(twice, &["y", "defined twice"]);
    refuses(one(13, "Relu", &["x"], &[]).input("x", &[2]).input("x", &[2]), &["x", "defined twice"]);
    let constants = one(13, "Add", &["x", "c"], &[]).input("x", &[2]);
    refuses(constants.floats("c", &[1], &[1.0]).floats("c", &[1], &[2.0]), &["c", "defined twice"]);
}
