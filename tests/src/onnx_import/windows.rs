//! Convolutions, pooling and resizing: attributes, padding rules, output extents, dialects.

use super::*;

fn conv(opset: i64, attributes: &[AttributeProto]) -> Model {
    one(opset, "Conv", &["x", "w"], attributes).input("x", &[1, 4, 10, 9]).weight("w", &[6, 4, 3, 3], 1)
}

#[test]
fn convolutions() {
    gives(conv(7, &[]), &["%y [1,6,8,7] = conv 3x3 (%x, w [6,4,3,3], Conv_y.bias [6])"]);
    let all = [ints("pads", &[1, 2, 0, 1]), ints("strides", &[2, 1]), ints("dilations", &[1, 2])];
    gives(
        conv(22, &all),
        &["%y [1,6,5,8] = conv 3x3 stride 2x1 pad 1,2,0,1 dilation 1x2 (%x, w [6,4,3,3], Conv_y.bias [6])"],
    );
    let biased = one(11, "Conv", &["x", "w", "b"], &[int("group", 2), ints("kernel_shape", &[3, 3])])
        .input("x", &[2, 4, 3, 3])
        .weight("w", &[6, 2, 3, 3], 1)
        .weight("b", &[6], 2);
    gives(biased, &["%y [2,6,1,1] = conv 3x3 groups 2 (%x, w [6,2,3,3], b [6])"]);
}

#[test]
fn automatic_padding_of_convolutions() {
    // 10 rows, stride 2: 5 positions reach 4·2 + 3 = 11 rows. 9 columns, stride 2: 5 positions reach 11 columns.
    let same = |mode| conv(7, &[text("auto_pad", mode), ints("strides", &[2, 2])]);
    gives(
        same("SAME_UPPER"),
        &["%y [1,6,5,5] = conv 3x3 stride 2 pad 0,1,1,1 (%x, w [6,4,3,3], Conv_y.bias [6])"],
    );
    gives(
        same("SAME_LOWER"),
        &["%y [1,6,5,5] = conv 3x3 stride 2 pad 1,1,0,1 (%x, w [6,4,3,3], Conv_y.bias [6])"],
    );
    gives(same("VALID"), &["%y [1,6,4,4] = conv 3x3 stride 2 (%x, w [6,4,3,3], Conv_y.bias [6])"]);
    gives(
        conv(7, &[text("auto_pad", "NOTSET"), ints("pads", &[1, 1, 1, 1])]),
        &["%y [1,6,10,9] = conv 3x3 pad 1 (%x, w [6,4,3,3], Conv_y.bias [6])"],
    );
    refuses(same("SAME"), &["auto_pad", "SAME"]);
}

#[test]
fn convolutions_that_are_refused() {
    let of = |x: &[i64], w: &[i64]| one(13, "Conv", &["x", "w"], &[]).input("x", x).weight("w", w, 1);
    refuses(of(&[1, 4, 10], &[6, 4, 3]), &["Conv", "1-dimensional"]);
    refuses(of(&[1, 4, 5, 5, 5], &[6, 4, 3, 3, 3]), &["3-dimensional"]);
    refuses(of(&[1, 4, 5, 5], &[6, 4, 3]), &["weight"]);
    refuses(of(&[1, 5, 5, 5], &[6, 4, 3, 3]), &["5 input channels"]);
    refuses(of(&[1, 4, 2, 5], &[6, 4, 3, 3]), &["window"]);
    refuses(conv(13, &[ints("pads", &[-1, 0, 0, 0])]), &["pads", "-1"]);
    refuses(conv(13, &[ints("pads", &[1, 1])]), &["pads", "four"]);
    refuses(conv(13, &[ints("strides", &[0, 1])]), &["strides", "0"]);
    refuses(conv(13, &[ints("strides", &[1])]), &["strides"]);
    refuses(conv(13, &[int("strides", 1)]), &["strides", "list"]);
    refuses(conv(13, &[ints("kernel_shape", &[5, 5])]), &["kernel_shape"]);
    refuses(conv(13, &[int("group", 0)]), &["group"]);
    refuses(conv(13, &[int("group", i64::MIN)]), &["group"]);
    refuses(conv(13, &[ints("dilations", &[i64::MAX, 1])]), &["dilations"]);
    refuses(conv(13, &[ints("pads", &[1 << 31, 1 << 31, 1 << 31, 1 << 31])]), &["elements"]);
    let computed = one(13, "Conv", &["x", "w"], &[]).input("x", &[1, 4, 5, 5]).input("w", &[6, 4, 3, 3]);
    refuses(computed, &["weight", "run time"]);
}

fn transposed(attributes: &[AttributeProto]) -> Model {
    one(11, "ConvTranspose", &["x", "w"], attributes).input("x", &[1, 4, 5, 5]).weight("w", &[4, 6, 3, 3], 1)
}

#[test]
fn transposed_convolutions() {
    let operands = "(%x, w [4,6,3,3], ConvTranspose_y.bias [6])";
    let check = |attributes: &[AttributeProto], head: &str| {
        gives(transposed(attributes), &[&format!("{head} {operands}")]);
    };
    check(&[], "%y [1,6,7,7] = conv_transpose 3x3");
    let two = ints("strides", &[2, 2]);
    check(std::slice::from_ref(&two), "%y [1,6,11,11] = conv_transpose 3x3 stride 2");
    check(
        &[two.clone(), ints("pads", &[1, 1, 1, 1]), ints("output_padding", &[1, 1])],
        "%y [1,6,10,10] = conv_transpose 3x3 stride 2 pad 1 output_padding 1",
    );
    // 11 rows and columns, of which 10 are wanted: one too many, before unless SAME_UPPER.
    let shape = ints("output_shape", &[10, 10]);
    check(&[two.clone(), shape.clone()], "%y [1,6,10,10] = conv_transpose 3x3 stride 2 pad 1,1,0,0");
    let same = [two.clone(), text("auto_pad", "SAME_UPPER")];
    check(&same, "%y [1,6,10,10] = conv_transpose 3x3 stride 2 pad 0,0,1,1");
    let wide = [two.clone(), ints("output_shape", &[12, 11])];
    check(&wide, "%y [1,6,12,11] = conv_transpose 3x3 stride 2 output_padding 1x0");
    refuses(transposed(&[two, ints("pads", &[9, 0, 9, 0])]), &["ConvTranspose", "leaves nothing"]);
}

fn pool(op: &str, opset: i64, attributes: &[AttributeProto]) -> Model {
    one(opset, op, &["x"], attributes).input("x", &[1, 3, 5, 6])
}

#[test]
fn pooling() {
    let k2 = ints("kernel_shape", &[2, 2]);
    let s2 = ints("strides", &[2, 2]);
    let check = |op: &str, attributes: &[AttributeProto], head: &str| {
        gives(pool(op, 10, attributes), &[&format!("%y {head} (%x)")]);
    };
    check("MaxPool", std::slice::from_ref(&k2), "[1,3,4,5] = max_pool 2x2");
    check("MaxPool", &[k2.clone(), s2.clone()], "[1,3,2,3] = max_pool 2x2 stride 2");
    // The third row of windows starts on row 4, the last.
    check("MaxPool", &[k2.clone(), s2.clone(), int("ceil_mode", 1)], "[1,3,3,3] = max_pool 2x2 stride 2");
    // 5 rows padded by 1 and 1, kernel 2, stride 2: ⌈5/2⌉ + 1 = 4, but the fourth would start on row 5, which is padding.
    let padded = ints("pads", &[1, 1, 1, 1]);
    check(
        "MaxPool",
        &[k2.clone(), s2.clone(), padded.clone(), int("ceil_mode", 1)],
        "[1,3,3,4] = max_pool 2x2 stride 2 pad 1",
    );
    check(
        "AveragePool",
        &[ints("kernel_shape", &[3, 3]), padded.clone(), int("count_include_pad", 1)],
        "[1,3,5,6] = average_pool 3x3 pad 1 count_pad",
    );
    check(
        "AveragePool",
        &[ints("kernel_shape", &[3, 3]), text("auto_pad", "SAME_UPPER"), s2.clone(), int("ceil_mode", 1)],
        "[1,3,3,3] = average_pool 3x3 stride 2 pad 1,0,1,1",
    );
    check("GlobalAveragePool", &[], "[1,3,1,1] = global_average_pool");
    check("GlobalMaxPool", &[], "[1,3,1,1] = global_max_pool");
    refuses(pool("MaxPool", 10, &[]), &["kernel_shape"]);
    refuses(pool("MaxPool", 10, &[ints("kernel_shape", &[7, 7])]), &["does not fit"]);
    refuses(pool("MaxPool", 10, &[ints("kernel_shape", &[2])]), &["kernel_shape"]);
    refuses(pool("MaxPool", 10, &[ints("kernel_shape", &[2, 2]), ints("pads", &[3, 3, 3, 3])]), &["pads"]);
    let line = one(13, "MaxPool", &["x"], &[ints("kernel_shape", &[2])]).input("x", &[1, 3, 8]);
    refuses(line, &["1-dimensional"]);
    let positions = Model::new(13).input("x", &[1, 3, 4, 4]);
    let positions = positions.node("MaxPool", &["x"], &["y", "i"], std::slice::from_ref(&k2)).output("y");
    gives(positions.clone(), &["%y [1,3,3,3] = max_pool 2x2 (%x)"]);
    refuses(positions.output("i"), &["positions"]);
}

#[test]
fn reductions() {
    let attribute =
        |axes: &[i64], keep| one(13, "ReduceMean", &["x"], &[ints("axes", axes), int("keepdims", keep)]);
    let x: &[i64] = &[2, 3, 5, 6];
    gives(attribute(&[2, 3], 1).input("x", x), &["%y [2,3,1,1] = global_average_pool (%x)"]);
    gives(
        attribute(&[-1, -2], 0).input("x", x),
        &[
            "%ReduceMean_y.pool [2,3,1,1] = global_average_pool (%x)",
            "%y [2,3] = reshape (%ReduceMean_y.pool)",
        ],
    );
    let operand = one(18, "ReduceMax", &["x", "a"], &[]).input("x", x).ints("a", &[2, 3]);
    gives(operand, &["%y [2,3,1,1] = global_max_pool (%x)"]);
    let nothing = one(18, "ReduceMean", &["x"], &[int("noop_with_empty_axes", 1)]).input("x", x);
    gives(nothing, &["%y [2,3,5,6] = identity (%x)"]);
    refuses(attribute(&[1], 1).input("x", x), &["ReduceMean", "[1]"]);
    refuses(attribute(&[2], 1).input("x", x), &["[2]"]);
    refuses(attribute(&[2, 2], 1).input("x", x), &["twice"]);
    refuses(attribute(&[2, 4], 1).input("x", x), &["axis 4"]);
}

fn resize(opset: i64, attributes: &[AttributeProto]) -> Model {
    let model = one(opset, "Resize", &["x", "", "s"], attributes).input("x", &[1, 3, 4, 6]);
    model.floats("s", &[4], &[1.0, 1.0, 2.0, 2.5])
}

#[test]
fn resizing() {
    let check = |model: Model, head: &str| gives(model, &[&format!("%y [1,3,8,15] = resize {head} (%x)")]);
    check(resize(11, &[]), "nearest(round_prefer_floor) half_pixel scale 2x2.5");
    check(
        resize(13, &[text("mode", "linear"), text("coordinate_transformation_mode", "align_corners")]),
        "linear align_corners scale 2x2.5",
    );
    for mode in ["half_pixel", "pytorch_half_pixel", "asymmetric"] {
        check(
            resize(19, &[text("coordinate_transformation_mode", mode), text("nearest_mode", "ceil")]),
            &format!("nearest(ceil) {mode} scale 2x2.5"),
        );
    }
    check(
        resize(19, &[text("coordinate_transformation_mode", "half_pixel_symmetric")]),
        "nearest(round_prefer_floor) half_pixel scale 2x2.5",
    );
    let ten = one(10, "Resize", &["x", "s"], &[]).input("x", &[1, 3, 4, 6]);
    check(ten.floats("s", &[4], &[1.0, 1.0, 2.0, 2.5]), "nearest(floor) asymmetric scale 2x2.5");
    let shrunk = one(10, "Resize", &["x", "s"], &[]).input("x", &[1, 3, 4, 6]);
    gives(
        shrunk.floats("s", &[4], &[1.0, 1.0, 0.5, 0.5]),
        &["%y [1,3,2,3] = resize nearest(ceil) asymmetric scale 0.5x0.5 (%x)"],
    );
    let nine = one(9, "Upsample", &["x", "s"], &[text("mode", "linear")]).input("x", &[1, 3, 4, 6]);
    check(nine.floats("s", &[4], &[1.0, 1.0, 2.0, 2.5]), "linear asymmetric scale 2x2.5");
    let seven = one(7, "Upsample", &["x"], &[floats("scales", &[1.0, 1.0, 2.0, 2.5])]);
    check(seven.input("x", &[1, 3, 4, 6]), "nearest(floor) asymmetric scale 2x2.5");
    let sizes = |model: Model| model.input("x", &[1, 3, 4, 6]).floats("none", &[0], &[]);
    check(
        sizes(one(11, "Resize", &["x", "none", "none", "z"], &[])).ints("z", &[1, 3, 8, 15]),
        "nearest(round_prefer_floor) half_pixel scale 2x2.5",
    );
    check(
        sizes(one(18, "Resize", &["x", "", "", "z"], &[ints("axes", &[3, 2])])).ints("z", &[15, 8]),
        "nearest(round_prefer_floor) half_pixel scale 2x2.5",
    );
    gives(
        sizes(one(13, "Resize", &["x", "", "", "z"], &[])).ints("z", &[1, 3, 4, 6]),
        &["%y [1,3,4,6] = identity (%x)"],
    );
    refuses(sizes(one(13, "Resize", &["x", "", "", "z"], &[])).ints("z", &[1, 6, 4, 6]), &["N or C"]);
    refuses(sizes(one(13, "Resize", &["x"], &[])), &["neither"]);
    refuses(sizes(one(13, "Resize", &["x", "", "", "z"], &[])).ints("z", &[4, 6]), &["2 sizes"]);
    refuses(sizes(one(13, "Resize", &["x", "", "", "z"], &[])).ints("z", &[1, 3, i64::MAX, 6]), &["sizes"]);
    refuses(resize(13, &[text("mode", "cubic")]), &["cubic"]);
    refuses(resize(13, &[text("coordinate_transformation_mode", "tf_crop_and_resize")]), &["tf_crop"]);
    let wild = one(13, "Resize", &["x", "", "s"], &[]).input("x", &[1, 3, 4, 6]);
    refuses(wild.clone().floats("s", &[4], &[1.0, 1.0, f32::NAN, 2.0]), &["scale NaN"]);
    refuses(wild.clone().floats("s", &[4], &[1.0, 1.0, 1e30, 2.0]), &["Resize"]);
    refuses(wild.floats("s", &[4], &[1.0, 1.0, -1.0, 2.0]), &["scale -1"]);
}
