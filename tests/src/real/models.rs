//! The models of the data folder, and every fact about them that the tests need, each once: how inputs are made, on which samples ranges
//! are calibrated, on which int8 is scored, what float scores by ONNX Runtime (the folder's README), what int8 may lose.
//!
//! Calibration and scoring never share a sample. ImageNet networks calibrate on every fifth picture of `imagenet_sample` and are scored on
//! the other 400, CIFAR networks on 500 lossless training pictures and all 10,000 test pictures, as the peers in the folder
//! beside; for the others every tenth or fourth sample calibrates.

use qgraph_compiler::preprocess::ChannelOrder::{self, Bgr, Rgb};

/// A model, and what is expected of it.
pub(super) struct Model {
    /// File in `models`, without `.onnx`.
    pub(super) name: &'static str,
    pub(super) input: Input,
    /// Set (a path in `images`), and which of its samples.
    pub(super) calibration: (&'static str, Part),
    pub(super) sets: &'static [Set],
    /// Least signal-to-noise ratio of int8 against float in dB, for each output.
    pub(super) sqnr: &'static [f64],
    /// Most that int8 may lose on any figure.
    pub(super) loss: Loss,
    /// Least share of samples on which int8 and float answer the same; of classifiers.
    pub(super) agreement: f64,
}

/// What int8 may lose on a figure.
#[derive(Clone, Copy)]
pub(super) enum Loss {
    /// So much of it: 0.01 is a point of a percentage.
    Absolute(f64),
    /// This share of it.
    Relative(f64),
}

/// How a sample becomes the input: x = (u8 − mean) / std.
pub(super) struct Input {
    pub(super) order: ChannelOrder,
    pub(super) mean: &'static [f32],
    pub(super) std: &'static [f32],
    pub(super) frame: Frame,
}

/// How a picture comes to the size of the input.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Frame {
    /// Resized, its aspect not kept.
    Stretch,
    /// Its centre.
    Crop(u32),
    /// The longer side resized to the input's, at the top left, filled up with this grey.
    Letterbox(u8),
    /// No picture: signed bytes.
    Signed,
}

/// Which samples of a set.
pub(super) type Part = fn(usize) -> bool;

/// Samples that float is held to its references on, and maybe int8 to float.
pub(super) struct Set {
    /// Path in `images`.
    pub(super) images: &'static str,
    pub(super) truth: Truths,
    /// Its name in the files of `ref`, and which of them there are.
    pub(super) name: &'static str,
    pub(super) references: &'static [Reference],
    /// What float scores, and by how much it may differ; nothing if there are no labels.
    pub(super) float: &'static [f64],
    pub(super) within: f64,
    /// The samples that int8 is scored on.
    pub(super) int8: Part,
    /// How many samples, from the first, are looked at at all.
    pub(super) first: usize,
}

/// Where the right answers are.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Truths {
    /// Nowhere.
    Unknown,
    /// In or beside the set: classes.
    Own,
    /// In this file in `images`: classes.
    Classes(&'static str),
    /// A mask of VOC classes for each picture, in this folder in `images`; pictures without one are left out.
    Masks(&'static str),
    /// In this file in `images`: boxes of COCO classes.
    Boxes(&'static str),
}

/// What ONNX Runtime gave, in `ref`.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reference {
    /// `first50.f32`: the outputs of the first 50 samples.
    First50,
    /// `top1.u8`: the class of every sample.
    Top1,
    /// `top5.csv`: the five best classes of every picture.
    Top5,
    /// `first1_full.f32`: the output of the first sample.
    Full1,
    /// `first50_gap.f32`: means over space of the first 50.
    Means50,
}

use Reference::*;

const IMAGENET: Input = Input {
    order: Rgb,
    mean: &[123.675, 116.28, 103.53],
    std: &[58.395, 57.12, 57.375],
    frame: Frame::Crop(224),
};
/// The same numbers, on pictures that have the size of the input.
const CIFAR: Input = Input { frame: Frame::Stretch, ..IMAGENET };
const GLUON: Input = Input { mean: &[125.307, 122.961, 113.8575], std: &[51.5865, 50.847, 51.255], ..CIFAR };

/// No preprocessing but a division.
const fn plain(std: &'static [f32]) -> Input {
    Input { order: Rgb, mean: &[0.0], std, frame: Frame::Stretch }
}

const ALL: Part = |_| true;
const NONE: Part = |_| false;
const TENTH: Part = |k| k % 10 == 0;
const BUT_TENTH: Part = |k| k % 10 != 0;
const FOURTH: Part = |k| k % 4 == 0;
const BUT_FOURTH: Part = |k| k % 4 != 0;
const FIFTH: Part = |k| k % 5 == 0;
const BUT_FIFTH: Part = |k| k % 5 != 0;
const FIRST_500: Part = |k| k < 500;

/// One sample more or fewer.
const fn one_of(samples: usize) -> f64 {
    1.000001 / samples as f64
}

const fn imagenet(sample: &'static [f64], val10: &'static [f64]) -> [Set; 2] {
    let sample = Set {
        images: "imagenet_sample",
        truth: Truths::Own,
        name: "imagenet_sample",
        references: &[First50, Top5],
        float: sample,
        within: one_of(500),
        int8: BUT_FIFTH,
        first: usize::MAX,
    };
    let val10 = Set {
        images: "imagenet_val10",
        name: "imagenet_val10",
        references: &[Top5],
        float: val10,
        within: one_of(250),
        int8: NONE,
        ..sample
    };
    [sample, val10]
}

const fn cifar_test(float: &'static [f64], references: &'static [Reference]) -> Set {
    Set {
        images: "cifar10_test_jpeg.bin",
        truth: Truths::Own,
        name: "cifar10_test_jpeg",
        references,
        float,
        within: one_of(10_000),
        int8: ALL,
        first: usize::MAX,
    }
}

const fn cifar(test: &'static [f64], train: &'static [f64]) -> [Set; 2] {
    let test = cifar_test(test, &[First50, Top1]);
    let train = Set {
        images: "cifar10_train_1000_lossless.bin",
        name: "cifar10_train_1000_lossless",
        float: train,
        within: one_of(1000),
        int8: NONE,
        ..test
    };
    [test, train]
}

/// Pictures without labels.
const fn unlabelled(images: &'static str, name: &'static str, int8: Part) -> Set {
    Set {
        images,
        truth: Truths::Unknown,
        name,
        references: &[],
        float: &[],
        within: 0.0,
        int8,
        first: usize::MAX,
    }
}

const COCO: Set = Set { within: 0.0005, ..unlabelled("coco_val", "coco_val", BUT_FOURTH) };

const IMAGENET_CALIBRATION: (&str, Part) = ("imagenet_sample", FIFTH);
const CIFAR_CALIBRATION: (&str, Part) = ("cifar10_train_1000_lossless.bin", FIRST_500);

const HALF_A_POINT: Loss = Loss::Absolute(0.005);
const A_POINT: Loss = Loss::Absolute(0.01);
/// Of what is measured otherwise than by top-1.
const A_HUNDREDTH: Loss = Loss::Relative(0.01);

/// All of them.
pub(super) const MODELS: &[Model] = &[
    Model {
        name: "squeezenet1.1",
        input: IMAGENET,
        calibration: IMAGENET_CALIBRATION,
        sets: &imagenet(&[300.0 / 500.0], &[125.0 / 250.0]),
        sqnr: &[34.0],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "mobilenet_v1_0.75_224",
        input: Input { mean: &[127.5], std: &[127.5], ..IMAGENET },
        calibration: IMAGENET_CALIBRATION,
        sets: &imagenet(&[416.0 / 500.0], &[144.0 / 250.0]),
        sqnr: &[22.0],
        loss: A_POINT,
        agreement: 0.88,
    },
    Model {
        name: "mobilenet_v2",
        input: IMAGENET,
        calibration: IMAGENET_CALIBRATION,
        sets: &imagenet(&[405.0 / 500.0], &[160.0 / 250.0]),
        sqnr: &[20.3],
        loss: A_POINT,
        agreement: 0.88,
    },
    Model {
        name: "resnet50v2_trunk",
        input: IMAGENET,
        calibration: IMAGENET_CALIBRATION,
        sets: &[Set {
            references: &[Full1, Means50],
            int8: BUT_FIFTH,
            first: 50,
            ..unlabelled("imagenet_sample", "imagenet_sample", NONE)
        }],
        sqnr: &[12.0],
        loss: A_HUNDREDTH,
        agreement: 0.0,
    },
    Model {
        name: "deeplabv3_mnv2_257",
        input: Input { order: Rgb, mean: &[127.5], std: &[127.5], frame: Frame::Letterbox(127) },
        calibration: ("coco_val", FOURTH),
        sets: &[Set { truth: Truths::Masks("coco_val_voc21_masks"), float: &[0.8599, 0.4074], ..COCO }],
        sqnr: &[26.0],
        // Mean intersection over union falls by 2.5 %: some of its classes have few pixels.
        loss: Loss::Relative(0.03),
        agreement: 0.0,
    },
    Model {
        name: "yolox_nano",
        input: Input { order: Bgr, mean: &[0.0], std: &[1.0], frame: Frame::Letterbox(114) },
        calibration: ("coco_val", FOURTH),
        sets: &[Set { truth: Truths::Boxes("coco_val_boxes.csv"), float: &[0.5091], within: 0.002, ..COCO }],
        sqnr: &[10.5],
        loss: A_HUNDREDTH,
        agreement: 0.0,
    },
    Model {
        name: "ultraface_rfb_320",
        input: Input { order: Rgb, mean: &[127.0], std: &[128.0], frame: Frame::Stretch },
        calibration: ("coco_val", FOURTH),
        sets: &[COCO],
        sqnr: &[44.0, 20.0],
        loss: A_HUNDREDTH,
        agreement: 0.0,
    },
    Model {
        name: "ppocr_mobile_v1.1_det_640",
        input: Input { frame: Frame::Stretch, ..IMAGENET },
        // Two pictures with text are all there are; those of COCO have little of it, but colours and edges.
        calibration: ("coco_val", FOURTH),
        sets: &[unlabelled("text", "text", ALL)],
        sqnr: &[11.5],
        loss: A_HUNDREDTH,
        agreement: 0.0,
    },
    Model {
        name: "super_resolution_10",
        input: Input { frame: Frame::Crop(224), ..plain(&[255.0]) },
        calibration: IMAGENET_CALIBRATION,
        sets: &[Set { first: 10, ..unlabelled("imagenet_sample", "imagenet_sample", BUT_FIFTH) }],
        sqnr: &[31.0],
        loss: A_HUNDREDTH,
        agreement: 0.0,
    },
    Model {
        name: "mnist-8",
        input: plain(&[1.0]),
        calibration: ("mnist-t10k-images-idx3-ubyte.gz", TENTH),
        sets: &[Set {
            images: "mnist-t10k-images-idx3-ubyte.gz",
            name: "t10k",
            int8: BUT_TENTH,
            ..cifar_test(&[0.9891], &[First50, Top1])
        }],
        sqnr: &[42.0],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "cifar_resnet20",
        input: CIFAR,
        calibration: CIFAR_CALIBRATION,
        sets: &cifar(&[0.8103], &[0.999]),
        sqnr: &[29.5],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "cifar_resnet32",
        input: CIFAR,
        calibration: CIFAR_CALIBRATION,
        sets: &cifar(&[0.8256], &[1.0]),
        sqnr: &[28.5],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "cifar_resnet56",
        input: CIFAR,
        calibration: CIFAR_CALIBRATION,
        sets: &cifar(&[0.832], &[1.0]),
        sqnr: &[27.5],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "tiny_resnet8",
        input: plain(&[1.0]),
        calibration: CIFAR_CALIBRATION,
        sets: &cifar(&[0.7548], &[0.929]),
        sqnr: &[33.0],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "gluon_cifar_resnet20_v1",
        input: GLUON,
        calibration: CIFAR_CALIBRATION,
        sets: &[cifar_test(&[0.8337], &[])],
        sqnr: &[28.5],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "gluon_cifar_resnet56_v2",
        input: GLUON,
        calibration: CIFAR_CALIBRATION,
        sets: &[cifar_test(&[0.8592], &[])],
        sqnr: &[24.5],
        loss: HALF_A_POINT,
        agreement: 0.93,
    },
    Model {
        name: "tiny_vww96",
        input: plain(&[255.0]),
        calibration: ("coco_val", FOURTH),
        sets: &[Set {
            truth: Truths::Classes("coco_val_person.csv"),
            float: &[81.0 / 96.0],
            within: one_of(96),
            ..COCO
        }],
        sqnr: &[17.0],
        loss: A_HUNDREDTH,
        agreement: 0.93,
    },
    Model {
        name: "tiny_kws",
        input: Input { order: Rgb, mean: &[83.0], std: &[1.0 / 0.5847029], frame: Frame::Signed },
        calibration: ("kws01_features_i8_500x49x10.bin", FIFTH),
        sets: &[Set {
            images: "kws01_features_i8_500x49x10.bin",
            truth: Truths::Classes("kws01_labels.csv"),
            name: "kws01",
            references: &[First50],
            float: &[0.904],
            within: one_of(500),
            int8: BUT_FIFTH,
            first: usize::MAX,
        }],
        sqnr: &[30.0],
        loss: A_HUNDREDTH,
        agreement: 0.93,
    },
];
