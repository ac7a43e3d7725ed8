//! What the caller sees: inputs and their shapes, outputs, names, operator sets, constants that are also inputs.

use super::*;
use qgraph_compiler::onnx::proto::*;

fn with_shapes(model: &Model, shapes: &[(&str, &[usize])]) -> Result<Graph, Error> {
    let shapes = shapes.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect();
    import_bytes(&model.bytes(), &Options { shapes })
}

fn relu(shape: &str) -> Model {
    one(13, "Relu", &["x"], &[]).symbolic_input("x", shape)
}

#[test]
fn symbolic_extents() {
    gives(relu("N,3"), &["%y [1,3] = relu (%x)"]);
    // Some exporters write 0 or −1 for an unknown batch.
    gives(relu("0,3"), &["%y [1,3] = relu (%x)"]);
    gives(relu("-1,3"), &["%y [1,3] = relu (%x)"]);
    refuses(relu("N,3,height,5"), &["x", "axis 2", "Nx3xheightx5", "--shape x="]);
    refuses(relu("N,0"), &["axis 1"]);
    let shape = |shapes| with_shapes(&relu("N,3,height"), shapes).map(|g| g.shape(g.outputs[0]).to_vec());
    assert_eq!(shape(&[("x", &[4, 3, 7])]).unwrap(), [4, 3, 7]);
    // A number can be replaced too.
    assert_eq!(shape(&[("x", &[4, 5, 7])]).unwrap(), [4, 5, 7]);
    let says = |shapes, word: &str| {
        let e = shape(shapes).unwrap_err().to_string();
        assert!(e.contains(word), "{e:?} does not say {word:?}");
    };
    says(&[("x", &[4, 3])], "Nx3xheight");
    says(&[("data", &[4, 3, 7])], "x (Nx3xheight)");
    says(&[("x", &[4, 0, 7])], "empty axis");
    says(&[("x", &[1 << 40, 1 << 40, 7])], "elements");
    says(&[("x", &[4, 3, 7]), ("x", &[4, 3, 8])], "two shapes");
}

#[test]
fn a_symbol_means_one_extent() {
    let model = one(13, "Add", &["a", "b"], &[]).symbolic_input("a", "N,H").symbolic_input("b", "N,H");
    let graph = with_shapes(&model, &[("a", &[4, 7])]).unwrap();
    assert_eq!(graph.shape(graph.inputs[1]), [4, 7]);
}

#[test]
fn initializers_among_the_inputs_are_constants() {
    let model =
        one(7, "Add", &["x", "c"], &[]).input("x", &[2]).input("c", &[2]).floats("c", &[2], &[1.0, 2.0]);
    let graph = import(&model);
    assert_eq!(graph.inputs.len(), 1);
    assert_eq!(graph.to_string().lines().nth(1).unwrap().trim(), "%y [2] = add (%x, c [2])");
    let e = with_shapes(&model, &[("c", &[2])]).unwrap_err().to_string();
    assert!(e.contains("it has x (2)"), "{e}");
}

#[test]
fn inputs_that_are_not_float_tensors() {
    let mut model = relu("1,3");
    model.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type =
        data_type::INT64;
    refuses(model.clone(), &["x", "int64"]);
    model.graph().input[0].r#type.as_mut().unwrap().tensor_type = None;
    refuses(model.clone(), &["x", "tensor type"]);
    model.graph().input[0].r#type = None;
    refuses(model.clone(), &["x", "tensor type"]);
    let mut unknown = relu("1,3");
    unknown.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = None;
    refuses(unknown.clone(), &["x", "unknown shape", "--shape"]);
    assert_eq!(with_shapes(&unknown, &[("x", &[2, 2])]).unwrap().nodes.len(), 1);
}

#[test]
fn several_inputs_and_outputs() {
    let model = Model::new(13)
        .input("a", &[2])
        .input("b", &[2])
        .node("Add", &["a", "b"], &["sum"], &[])
        .node("Sub", &["a", "b"], &["difference"], &[])
        .output("difference")
        .output("sum");
    let graph = import(&model);
    assert_eq!(
        graph.to_string().lines().next().unwrap(),
        "graph test: %a [2], %b [2] -> %difference [2], %sum [2]"
    );
}

#[test]
fn outputs_that_nothing_computes() {
    let model = Model::new(13).input("x", &[2]).floats("c", &[1], &[3.0]).output("x").output("c");
    gives(model, &["%x_1 [2] = identity (%x)", "%c_1 [1] = identity (c [1])"]);
    let twice = one(13, "Relu", &["x"], &[]).input("x", &[2]).output("y");
    gives(twice, &["%y [2] = relu (%x)", "%y_1 [2] = identity (%y)"]);
    refuses(Model::new(13).input("x", &[2]).output("z"), &["z", "nothing computes"]);
    refuses(Model::new(13).input("x", &[2]), &["no output"]);
    refuses(Model::new(13).ints("i", &[2]).output("i"), &["i", "integers"]);
}

#[test]
fn names() {
    // A helper's name gives way to the model's own; unnamed and equal names become unique.
    let model = Model::new(13)
        .input("x", &[1, 1, 3, 3])
        .weight("w", &[1, 1, 1, 1], 1)
        .node("Conv", &["x", "w"], &["c.bias"], &[])
        .named("c")
        .node("Relu", &["c.bias"], &["r"], &[])
        .named("c")
        .node("Relu", &["r"], &["y"], &[])
        .output("y");
    let graph = import(&model);
    let names: Vec<_> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["c", "c_1", "Relu_y"]);
    let values: Vec<_> = graph.nodes.iter().map(|n| graph.value(n.output).name.as_str()).collect();
    assert_eq!(values, ["c.bias", "r", "y"]);
    assert_eq!(graph.value(graph.nodes[0].inputs[2]).name, "c.bias_1");
}

#[test]
fn operator_sets() {
    for opset in 7..=22 {
        assert_eq!(lines(&one(opset, "Relu", &["x"], &[]).input("x", &[2])).len(), 1);
    }
    refuses(one(6, "Relu", &["x"], &[]).input("x", &[2]), &["operator set 6", "7 to 22", "opset_version=13"]);
    refuses(one(23, "Relu", &["x"], &[]).input("x", &[2]), &["operator set 23", "opset_version=22"]);
    let mut foreign = one(13, "Relu", &["x"], &[]).input("x", &[2]);
    foreign.0.opset_import.insert(0, OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 });
    assert_eq!(lines(&foreign).len(), 1);
    foreign.0.opset_import.truncate(1);
    refuses(foreign, &["operator set"]);
}

#[test]
fn weights_in_half_precision_become_floats() {
    let half = TensorProto {
        dims: vec![2],
        data_type: data_type::FLOAT16,
        raw_data: vec![0x00, 0x3c, 0x00, 0xc1].into(),
        ..Default::default()
    };
    let graph = import(&one(13, "Add", &["x", "c"], &[]).input("x", &[2]).constant("c", half));
    let constant = graph.constant(graph.nodes[0].inputs[1]).unwrap();
    assert_eq!(constant.data[..], [1.0, -2.5]);
}

#[test]
fn what_no_output_needs_is_left_out() {
    let model = Model::new(13)
        .input("x", &[2])
        .node("Unheard", &["x"], &["z"], &[])
        .node("Relu", &["x"], &["y"], &[])
        .output("y");
    gives(model, &["%y [2] = relu (%x)"]);
}
