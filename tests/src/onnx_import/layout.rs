//! Operators that move elements, and the arithmetic of shapes, which leaves no trace in the graph.

use super::*;
use qgraph_compiler::graph::{Op, SliceAxis};

fn x(model: Model, shape: &[i64]) -> Model {
    model.input("x", shape)
}

#[test]
fn reshapes() {
    let reshape = |to: &[i64], a: &[AttributeProto]| one(14, "Reshape", &["x", "s"], a).ints("s", to);
    gives(x(reshape(&[0, -1], &[]), &[2, 3, 4]), &["%y [2,12] = reshape (%x)"]);
    gives(x(reshape(&[4, 6], &[]), &[2, 3, 4]), &["%y [4,6] = reshape (%x)"]);
    gives(x(reshape(&[], &[]), &[1, 1]), &["%y [] = reshape (%x)"]);
    refuses(x(reshape(&[0, -1], &[int("allowzero", 1)]), &[2, 3, 4]), &["reshape"]);
    refuses(x(reshape(&[5, 5], &[]), &[2, 3, 4]), &["number of elements"]);
    refuses(x(reshape(&[5, -1], &[]), &[2, 3, 4]), &["divide"]);
    refuses(x(reshape(&[-1, -1], &[]), &[2, 3, 4]), &["makes no sense"]);
    refuses(x(reshape(&[0, 0, 0, 0], &[]), &[2, 3, 4]), &["axis 3"]);
    refuses(x(reshape(&[i64::MAX, i64::MAX], &[]), &[2, 3, 4]), &["elements"]);
    let computed = one(14, "Reshape", &["x", "s"], &[]).input("s", &[2]);
    refuses(x(computed, &[2, 3, 4]), &["shape", "run time"]);
    let flatten = |axis| x(one(13, "Flatten", &["x"], &[int("axis", axis)]), &[2, 3, 4]);
    gives(flatten(1), &["%y [2,12] = reshape (%x)"]);
    gives(flatten(0), &["%y [1,24] = reshape (%x)"]);
    gives(flatten(3), &["%y [24,1] = reshape (%x)"]);
    gives(flatten(-1), &["%y [6,4] = reshape (%x)"]);
    refuses(flatten(4), &["axis 4"]);
    let shape: &[i64] = &[1, 3, 1, 4];
    gives(x(one(11, "Squeeze", &["x"], &[ints("axes", &[2])]), shape), &["%y [1,3,4] = reshape (%x)"]);
    gives(x(one(13, "Squeeze", &["x"], &[]), shape), &["%y [3,4] = reshape (%x)"]);
    gives(x(one(13, "Squeeze", &["x", "a"], &[]), shape).ints("a", &[-2]), &["%y [1,3,4] = reshape (%x)"]);
    refuses(x(one(11, "Squeeze", &["x"], &[ints("axes", &[1])]), shape), &["axis 1"]);
    gives(
        x(one(11, "Unsqueeze", &["x"], &[ints("axes", &[0, 3])]), &[3, 4]),
        &["%y [1,3,4,1] = reshape (%x)"],
    );
    gives(x(one(13, "Unsqueeze", &["x", "a"], &[]), &[3]).ints("a", &[-1]), &["%y [3,1] = reshape (%x)"]);
    refuses(x(one(11, "Unsqueeze", &["x"], &[]), &[3]), &["axes"]);
}

#[test]
fn transposes() {
    gives(x(one(13, "Transpose", &["x"], &[]), &[2, 3, 4]), &["%y [4,3,2] = transpose [2,1,0] (%x)"]);
    let perm = [ints("perm", &[0, 2, 1])];
    gives(x(one(13, "Transpose", &["x"], &perm), &[2, 3, 4]), &["%y [2,4,3] = transpose [0,2,1] (%x)"]);
    refuses(x(one(13, "Transpose", &["x"], &[ints("perm", &[0, 0, 1])]), &[2, 3, 4]), &["permutation"]);
    refuses(x(one(13, "Transpose", &["x"], &[ints("perm", &[0, 1])]), &[2, 3, 4]), &["permutation"]);
    gives(
        x(one(13, "SpaceToDepth", &["x"], &[int("blocksize", 2)]), &[1, 3, 4, 6]),
        &[
            "%SpaceToDepth_y.split [1,3,2,2,3,2] = reshape (%x)",
            "%SpaceToDepth_y.turned [1,2,2,3,2,3] = transpose [0,3,5,1,2,4] (%SpaceToDepth_y.split)",
            "%y [1,12,2,3] = reshape (%SpaceToDepth_y.turned)",
        ],
    );
    let depth =
        |mode| x(one(13, "DepthToSpace", &["x"], &[int("blocksize", 2), text("mode", mode)]), &[1, 12, 2, 3]);
    gives(
        depth("CRD"),
        &[
            "%DepthToSpace_y.split [1,3,2,2,2,3] = reshape (%x)",
            "%DepthToSpace_y.turned [1,3,2,2,3,2] = transpose [0,1,4,2,5,3] (%DepthToSpace_y.split)",
            "%y [1,3,4,6] = reshape (%DepthToSpace_y.turned)",
        ],
    );
    assert!(lines(&depth("DCR"))[1].contains("transpose [0,3,4,1,5,2]"));
    refuses(depth("ABC"), &["ABC"]);
    refuses(x(one(13, "SpaceToDepth", &["x"], &[int("blocksize", 0)]), &[1, 3, 4, 6]), &["block size"]);
}

fn slice_of(model: Model) -> Vec<(usize, isize, usize)> {
    let graph = import(&model);
    let Op::Slice(axes) = &graph.nodes[0].op else { panic!("no slice: {graph}") };
    axes.iter().map(|&SliceAxis { start, step, count }| (start, step, count)).collect()
}

#[test]
fn slices_as_numpy_has_them() {
    let slice = |list: [i64; 3]| {
        let [start, end, step] = list.map(|n| vec![n]);
        let model = x(one(10, "Slice", &["x", "b", "e", "a", "s"], &[]), &[2, 5]);
        model.ints("b", &start).ints("e", &end).ints("a", &[-1]).ints("s", &step)
    };
    let axis = |list| slice_of(slice(list))[1];
    assert_eq!(axis([1, 4, 1]), (1, 1, 3));
    assert_eq!(axis([-2, i64::MAX, 1]), (3, 1, 2));
    assert_eq!(axis([0, 5, 2]), (0, 2, 3));
    assert_eq!(axis([0, 5, i64::MAX]), (0, 1, 1));
    assert_eq!(axis([4, 0, -1]), (4, -1, 4));
    assert_eq!(axis([-1, i64::MIN, -1]), (4, -1, 5));
    assert_eq!(axis([9, -6, -2]), (4, -2, 3));
    assert_eq!(axis([9, 1, i64::MIN]), (4, 1, 1));
    refuses(slice([3, 3, 1]), &["nothing"]);
    refuses(slice([0, 5, -1]), &["nothing"]);
    refuses(slice([0, 5, 0]), &["step 0"]);
    let old = one(9, "Slice", &["x"], &[ints("starts", &[1, 0]), ints("ends", &[2, -1])]);
    assert_eq!(slice_of(x(old, &[2, 5])), [(1, 1, 1), (0, 1, 4)]);
    refuses(x(one(9, "Slice", &["x"], &[ints("starts", &[1])]), &[2, 5]), &["ends"]);
    refuses(x(one(9, "Slice", &["x"], &[ints("starts", &[1]), ints("ends", &[1, 2])]), &[2, 5]), &["differ"]);
}

#[test]
fn splits() {
    let split = |opset, inputs: &[&str], a: &[AttributeProto]| {
        let model = Model::new(opset).node("Split", inputs, &["p", "q"], a).named("cut");
        x(model, &[2, 5]).output("p").output("q")
    };
    let unequal = ["%p [2,2] = slice [:, 0..2] (%x)", "%q [2,3] = slice [:, 2..5] (%x)"];
    gives(split(11, &["x"], &[int("axis", 1), ints("split", &[2, 3])]), &unequal);
    gives(split(13, &["x", "s"], &[int("axis", -1)]).ints("s", &[2, 3]), &unequal);
    let uneven = ["%p [2,3] = slice [:, 0..3] (%x)", "%q [2,2] = slice [:, 3..5] (%x)"];
    gives(split(18, &["x"], &[int("axis", 1), int("num_outputs", 2)]), &uneven);
    gives(split(13, &["x"], &[]), &["%p [1,5] = slice [0..1, :] (%x)", "%q [1,5] = slice [1..2, :] (%x)"]);
    refuses(split(13, &["x"], &[int("axis", 1)]), &["equal"]);
    refuses(split(13, &["x", "s"], &[int("axis", 1)]).ints("s", &[2, 2]), &["sizes"]);
    refuses(split(13, &["x", "s"], &[int("axis", 1)]).ints("s", &[5, 0]), &["empty"]);
    refuses(split(13, &["x", "s"], &[int("axis", 1)]).ints("s", &[-1, 6]), &["-1"]);
    let names: Vec<_> = import(&split(13, &["x"], &[])).nodes.into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["cut", "cut.1"]);
}

#[test]
fn pads() {
    let old = [ints("pads", &[0, 1, 0, 2]), float("value", 3.0)];
    gives(x(one(7, "Pad", &["x"], &old), &[2, 5]), &["%y [2,8] = pad [0,1]..[0,2] with 3 (%x)"]);
    let pad = |inputs: &[&str], a: &[AttributeProto], amounts: &[i64]| {
        let model = x(one(18, "Pad", inputs, a), &[2, 5]).ints("p", amounts);
        model.floats("v", &[], &[3.0]).ints("a", &[-1])
    };
    gives(pad(&["x", "p"], &[], &[0, 1, 0, 2]), &["%y [2,8] = pad [0,1]..[0,2] with 0 (%x)"]);
    gives(pad(&["x", "p", "v", "a"], &[], &[1, 2]), &["%y [2,8] = pad [0,1]..[0,2] with 3 (%x)"]);
    gives(pad(&["x", "p"], &[text("mode", "reflect")], &[0; 4]), &["%y [2,5] = identity (%x)"]);
    refuses(pad(&["x", "p"], &[text("mode", "reflect")], &[0, 1, 0, 1]), &["reflect"]);
    refuses(pad(&["x", "p"], &[], &[0, -1, 0, 1]), &["crop"]);
    refuses(pad(&["x", "p"], &[], &[0, 1]), &["2 pads"]);
    refuses(pad(&["x", "p"], &[], &[0, i64::MAX, 0, 1]), &["pads"]);
}

#[test]
fn joins_and_gathers() {
    let concat = |axis| one(13, "Concat", &["x", "z"], &[int("axis", axis)]).input("z", &[2, 3]);
    gives(x(concat(1), &[2, 5]), &["%y [2,8] = concat axis 1 (%x, %z)"]);
    gives(x(concat(-1), &[2, 5]), &["%y [2,8] = concat axis 1 (%x, %z)"]);
    refuses(x(concat(0), &[2, 5]), &["differ"]);
    refuses(x(concat(2), &[2, 5]), &["axis 2"]);
    let gather = |shape: &[i64], indices: &[i64]| {
        x(one(13, "Gather", &["x", "i"], &[int("axis", 1)]), &[2, 5])
            .constant("i", int_tensor(shape, indices))
    };
    gives(
        gather(&[], &[-1]),
        &["%Gather_y.taken [2,1] = slice [:, 4..5] (%x)", "%y [2] = reshape (%Gather_y.taken)"],
    );
    assert_eq!(slice_of(gather(&[2], &[0, 2]))[1], (0, 2, 2));
    assert_eq!(slice_of(gather(&[3], &[4, 3, 2]))[1], (4, -1, 3));
    refuses(gather(&[3], &[0, 1, 3]), &["unevenly"]);
    refuses(gather(&[2], &[1, 1]), &["unevenly"]);
    refuses(gather(&[], &[5]), &["index 5"]);
    let expand = |to: &[i64]| x(one(13, "Expand", &["x", "s"], &[]), &[2, 5]).ints("s", to);
    gives(expand(&[1, 5]), &["%y [2,5] = identity (%x)"]);
    refuses(expand(&[3, 2, 5]), &["repeats"]);
}

/// The flattening of older exporters: x reshaped to (its batch, −1), computed in the graph.
#[test]
fn computed_shapes_disappear() {
    let model = Model::new(11)
        .symbolic_input("x", "N,3,4,5")
        .node("Shape", &["x"], &["shape"], &[])
        .node("Constant", &[], &["zero"], &[tensor("value", int_tensor(&[], &[0]))])
        .node("Gather", &["shape", "zero"], &["batch"], &[int("axis", 0)])
        .node("Unsqueeze", &["batch"], &["batch1"], &[ints("axes", &[0])])
        .ints("rest", &[-1])
        .node("Concat", &["batch1", "rest"], &["to"], &[int("axis", 0)])
        .node("Reshape", &["x", "to"], &["y"], &[])
        .output("y");
    gives(model, &["%y [1,60] = reshape (%x)"]);
}

#[test]
fn arithmetic_of_shapes() {
    // (H·2, ⌊W·1.5⌋) by way of slices, casts, floors and products, as exporters write an upsampling.
    let model = Model::new(13)
        .input("x", &[1, 3, 4, 5])
        .node("Shape", &["x"], &["s"], &[])
        .ints("two", &[2])
        .ints("four", &[4])
        .node("Slice", &["s", "two", "four"], &["hw"], &[])
        .node("Cast", &["hw"], &["hwf"], &[int("to", 1)])
        .floats("factor", &[2], &[2.0, 1.5])
        .node("Mul", &["hwf", "factor"], &["scaled"], &[])
        .node("Floor", &["scaled"], &["floored"], &[])
        .node("Cast", &["floored"], &["size"], &[int("to", 7)])
        .ints("zero", &[0])
        .node("Slice", &["s", "zero", "two"], &["nc"], &[])
        .node("Concat", &["nc", "size"], &["sizes"], &[int("axis", 0)])
        .node("Resize", &["x", "", "", "sizes"], &["y"], &[text("mode", "nearest")])
        .output("y");
    assert!(lines(&model)[0].starts_with("%y [1,3,8,7] = resize"), "{:?}", lines(&model));
}

/// Folds to a shape that x is reshaped to, which shows the result.
fn folded(x_shape: &[i64], build: impl Fn(Model) -> Model) -> Vec<usize> {
    let model =
        build(Model::new(18).input("x", x_shape)).node("Reshape", &["x", "r"], &["y"], &[]).output("y");
    let graph = import(&model);
    assert_eq!(graph.nodes.len(), 1, "{graph}");
    graph.shape(graph.outputs[0]).to_vec()
}

#[test]
fn more_arithmetic_of_shapes() {
    let binary = |op: &'static str, a: &'static [i64], b: &'static [i64], size| {
        folded(&[size], move |m| m.ints("a", a).ints("b", b).node(op, &["a", "b"], &["r"], &[]))
    };
    assert_eq!(binary("Add", &[1, 2], &[1], 6), [2, 3]);
    assert_eq!(binary("Sub", &[5, 2], &[1], 4), [4, 1]);
    assert_eq!(binary("Div", &[7, 9], &[2], 12), [3, 4]);
    assert_eq!(binary("Mod", &[7, -1], &[4], 9), [3, 3]);
    assert_eq!(binary("Min", &[7, 2], &[3], 6), [3, 2]);
    assert_eq!(binary("Max", &[7, 2], &[3], 21), [7, 3]);
    assert_eq!(binary("Pow", &[2, 3], &[2], 36), [4, 9]);
    let range = |m: Model| {
        let scalar = |n| int_tensor(&[], &[n]);
        let m = m.constant("a", scalar(4)).constant("b", scalar(0)).constant("c", scalar(-2));
        m.node("Range", &["a", "b", "c"], &["r"], &[])
    };
    assert_eq!(folded(&[8], range), [4, 2]);
    // The exporters' "expand to at least": Where(Equal(shape, −1), ones, shape).
    let choose = |m: Model| {
        let m = m.ints("shape", &[-1, 6]).ints("minus", &[-1]).ints("length", &[2]);
        let m = m.node("ConstantOfShape", &["length"], &["ones"], &[tensor("value", int_tensor(&[1], &[1]))]);
        let m = m.node("Equal", &["shape", "minus"], &["free"], &[]);
        m.node("Where", &["free", "ones", "shape"], &["r"], &[])
    };
    assert_eq!(folded(&[6], choose), [1, 6]);
    let product = |m: Model| {
        let m = m.node("Shape", &["x"], &["s"], &[int("end", 2)]);
        let m = m.node("ReduceProd", &["s"], &["rows"], &[]).ints("rest", &[-1]);
        m.node("Concat", &["rows", "rest"], &["r"], &[int("axis", 0)])
    };
    assert_eq!(folded(&[2, 3, 4], product), [6, 4]);
    let size = |m: Model| m.node("Size", &["x"], &["n"], &[]).node("Unsqueeze", &["n", "zero"], &["r"], &[]);
    assert_eq!(folded(&[2, 3], |m| size(m.ints("zero", &[0]))), [6]);
    let transposed = |m: Model| {
        let m = m.constant("c", int_tensor(&[2, 3], &[1, 2, 3, 4, 5, 6]));
        let m = m.node("Transpose", &["c"], &["t"], &[]).ints("one", &[1]).ints("two", &[2]);
        m.node("Slice", &["t", "one", "two"], &["row"], &[]).node("Squeeze", &["row"], &["r"], &[])
    };
    assert_eq!(folded(&[10], transposed), [2, 5]);
}

#[test]
fn arithmetic_of_shapes_that_is_refused() {
    let binary = |op: &str, a: i64, b: i64| {
        let m = Model::new(13).input("x", &[4]).ints("a", &[a]).ints("b", &[b]).node(
            op,
            &["a", "b"],
            &["r"],
            &[],
        );
        m.node("Reshape", &["x", "r"], &["y"], &[]).output("y")
    };
    refuses(binary("Div", 1, 0), &["Div", "1 and 0"]);
    refuses(binary("Mod", 1, 0), &["Mod"]);
    refuses(binary("Div", i64::MIN, -1), &["overflows"]);
    refuses(binary("Mul", i64::MAX, 2), &["overflows"]);
    refuses(binary("Pow", 10, 100), &["overflows"]);
    let huge = Model::new(13).input("x", &[4]).ints("s", &[1 << 20, 1 << 20]);
    let huge = huge.node("ConstantOfShape", &["s"], &["c"], &[]).node("Add", &["x", "c"], &["y"], &[]);
    refuses(huge.output("y"), &["ConstantOfShape", "elements"]);
    let long = Model::new(13)
        .constant("a", int_tensor(&[], &[i64::MIN]))
        .constant("b", int_tensor(&[], &[i64::MAX]));
    let long = long.constant("c", int_tensor(&[], &[1])).node("Range", &["a", "b", "c"], &["y"], &[]);
    refuses(long.output("y"), &["Range", "elements"]);
    let computed = Model::new(13).input("x", &[4]).node("Floor", &["x"], &["y"], &[]).output("y");
    refuses(computed, &["Floor", "run time"]);
}

#[test]
fn constants_in_every_form() {
    let add = |a: AttributeProto| {
        let model = Model::new(13).input("x", &[2]).node("Constant", &[], &["c"], &[a]);
        model.node("Add", &["x", "c"], &["y"], &[]).output("y")
    };
    gives(add(float("value_float", 2.0)), &["%y [2] = add (%x, c [])"]);
    gives(add(floats("value_floats", &[2.0, 3.0])), &["%y [2] = add (%x, c [2])"]);
    gives(add(tensor("value", float_tensor(&[2], &[2.0, 3.0]))), &["%y [2] = add (%x, c [2])"]);
    refuses(add(text("value_string", "2")), &["Constant"]);
    refuses(add(int("value_int", 2)), &["Add", "integers"]);
    refuses(add(tensor("value", float_tensor(&[3], &[2.0, 3.0]))), &["promises 3"]);
}
