//! Operators against numbers worked out by hand.

use super::eval;
use crate::graph::*;

fn run(op: Op, inputs: &[Tensor], constants: &[Tensor]) -> Tensor {
    let mut g = Graph::new("one");
    let mut ids: Vec<ValueId> =
        inputs.iter().enumerate().map(|(k, t)| g.add_input(format!("x{k}"), t.shape.clone())).collect();
    ids.extend(constants.iter().enumerate().map(|(k, t)| g.add_constant(format!("c{k}"), t.clone())));
    let y = g.add_node("y", op, ids).expect("operands fit");
    g.outputs.push(y);
    eval(&g, inputs, &mut |_, _| {}).expect("inputs fit").remove(0)
}

fn t(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(shape, data)
}

fn conv(kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4], groups: usize) -> Conv {
    Conv { kernel, strides, dilations: [1, 1], pads, groups, epilogue: Epilogue::default() }
}

#[test]
fn convolution_pads_strides_and_groups() {
    let x = t(&[1, 1, 3, 3], &[1., 2., 3., 4., 5., 6., 7., 8., 9.]);
    let w = t(&[1, 1, 2, 2], &[1., 10., 100., 1000.]);
    let y = run(
        Op::Conv(conv([2, 2], [1, 1], [0; 4], 1)),
        std::slice::from_ref(&x),
        &[w.clone(), t(&[1], &[0.5])],
    );
    assert_eq!(*y.data, [5421.5, 6532.5, 8754.5, 9865.5]);
    let y =
        run(Op::Conv(conv([2, 2], [2, 2], [1, 1, 0, 0], 1)), std::slice::from_ref(&x), &[w, t(&[1], &[0.])]);
    assert_eq!(*y.data, [1000., 3200., 7040., 9865.]);
    let x = t(&[1, 2, 1, 2], &[1., 2., 3., 4.]);
    let depthwise = run(
        Op::Conv(conv([1, 1], [1, 1], [0; 4], 2)),
        &[x],
        &[t(&[2, 1, 1, 1], &[2., 3.]), t(&[2], &[0., 1.])],
    );
    assert_eq!(*depthwise.data, [2., 4., 10., 13.]);
}

#[test]
fn transposed_convolution_scatters() {
    let op = Op::ConvTranspose(ConvTranspose {
        kernel: [2, 2],
        strides: [2, 2],
        dilations: [1, 1],
        pads: [0; 4],
        output_padding: [0, 1],
        groups: 1,
        epilogue: Epilogue::default(),
    });
    let y = run(op, &[t(&[1, 1, 1, 2], &[1., 2.])], &[t(&[1, 1, 2, 2], &[1., 2., 3., 4.]), t(&[1], &[0.])]);
    assert_eq!(
        (y.shape.as_slice(), &*y.data),
        (&[1, 1, 2, 5][..], &[1., 2., 2., 4., 0., 3., 4., 6., 8., 0.][..])
    );
}

#[test]
fn averages_count_padding_only_when_told() {
    let x = t(&[1, 1, 1, 3], &[2., 4., 6.]);
    let pool = |include| {
        let kind = PoolKind::Average { count_include_pad: include };
        let p = Pool {
            kind,
            kernel: [1, 2],
            strides: [1, 2],
            dilations: [1, 1],
            pads: [0, 1, 0, 0],
            output: [1, 2],
        };
        run(Op::Pool(p), std::slice::from_ref(&x), &[]).data.to_vec()
    };
    assert_eq!(pool(true), [1., 5.]);
    assert_eq!(pool(false), [2., 5.]);
}

#[test]
fn moves_and_broadcasts() {
    let x = t(&[1, 2, 2], &[1., 2., 3., 4.]);
    assert_eq!(*run(Op::Transpose(vec![0, 2, 1]), std::slice::from_ref(&x), &[]).data, [1., 3., 2., 4.]);
    let back = SliceAxis { start: 1, step: -1, count: 2 };
    let all = SliceAxis { start: 0, step: 1, count: 1 };
    let two = SliceAxis { start: 0, step: 1, count: 2 };
    assert_eq!(*run(Op::Slice(vec![all, two, back]), std::slice::from_ref(&x), &[]).data, [2., 1., 4., 3.]);
    let padded =
        run(Op::Pad { pads: vec![(0, 0), (1, 0), (0, 1)], value: 9. }, std::slice::from_ref(&x), &[]);
    assert_eq!(*padded.data, [9., 9., 9., 1., 2., 9., 3., 4., 9.]);
    let y = run(Op::Binary(Binary::Sub), &[x.clone(), t(&[2, 1], &[1., 10.])], &[]);
    assert_eq!(*y.data, [0., 1., -7., -6.]);
    assert_eq!(*run(Op::Concat { axis: 2 }, &[x.clone(), x], &[]).data, [1., 2., 1., 2., 3., 4., 3., 4.]);
}

#[test]
fn resize_follows_the_coordinate_formulas() {
    let x = t(&[1, 1, 1, 2], &[0., 10.]);
    let resize = |interpolation, coordinates| {
        let r = Resize { interpolation, coordinates, scales: [1., 2.], output: [1, 4] };
        run(Op::Resize(r), std::slice::from_ref(&x), &[]).data.to_vec()
    };
    assert_eq!(resize(Interpolation::Linear, Coordinates::HalfPixel), [0., 2.5, 7.5, 10.]);
    assert_eq!(resize(Interpolation::Linear, Coordinates::Asymmetric), [0., 5., 10., 10.]);
    let nearest = Interpolation::Nearest(NearestRounding::Floor);
    assert_eq!(resize(nearest, Coordinates::Asymmetric), [0., 0., 10., 10.]);
    let y = resize(Interpolation::Linear, Coordinates::AlignCorners);
    assert!(y.iter().zip([0., 10. / 3., 20. / 3., 10.]).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5));
}

#[test]
fn a_fused_activation_shows_what_it_is_applied_to() {
    let mut g = Graph::new("pre");
    let x = g.add_input("x", [1, 1, 1, 2]);
    let w = g.add_constant("w", t(&[1, 1, 1, 1], &[2.]));
    let b = g.add_constant("b", t(&[1], &[0.]));
    let epilogue = Epilogue { residual: true, activation: Some(Unary::Square) };
    let op = Op::Conv(Conv { epilogue, ..conv([1, 1], [1, 1], [0; 4], 1) });
    let y = g.add_node("y", op, [x, w, b, x]).expect("fits");
    g.outputs.push(y);
    let mut seen = Vec::new();
    let out =
        eval(&g, &[t(&[1, 1, 1, 2], &[1., -2.])], &mut |n, v| seen.push((n.to_string(), v.data.to_vec())));
    assert_eq!(*out.expect("runs")[0].data, [9., 36.]);
    assert_eq!(seen, [("y/pre".to_string(), vec![3., -6.]), ("y".to_string(), vec![9., 36.])]);
    let wrong = eval(&g, &[t(&[2], &[0., 0.])], &mut |_, _| {});
    assert!(wrong.expect_err("shapes differ").to_string().contains("[1, 1, 1, 2]"));
}
