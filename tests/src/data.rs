//! Samples: what is in the files is what the network gets, in order; what is wrong in them is said with the file and the cure.
//! Every file is made here; the last test reads the real sets.

use crate::support::{TempDir, data_dir, temp_dir, workspace_root};
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use qgraph_compiler::data::{Input, Options, Pick, Sample, Samples, class_names, write_npy};
use qgraph_compiler::preprocess::{ChannelOrder, InputLayout, Preprocess};
use std::fs;
use std::io::Write;
use std::path::Path;

fn options(inputs: &[(&str, &[usize])]) -> Options {
    let input = |&(name, shape): &(&str, &[usize])| Input { name: name.into(), shape: shape.to_vec() };
    Options { inputs: inputs.iter().map(input).collect(), ..Options::default() }
}

fn image(shape: &[usize]) -> Options {
    options(&[("x", shape)])
}

fn all(path: &Path, options: &Options) -> Vec<Sample> {
    let samples = Samples::open(path.to_str().unwrap(), options).unwrap();
    let len = samples.len();
    let samples: Vec<Sample> = samples.map(Result::unwrap).collect();
    assert_eq!(samples.len(), len);
    samples
}

/// The message of opening, or of the first sample that fails.
fn error(path: &Path, options: &Options) -> String {
    let e = match Samples::open(path.to_str().unwrap(), options) {
        Err(e) => e,
        Ok(samples) => samples.filter_map(Result::err).next().expect("an error"),
    };
    assert_eq!(e.stage, qgraph_compiler::Stage::Data);
    e.to_string()
}

fn names(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(|s| s.name.as_str()).collect()
}

fn labels(samples: &[Sample]) -> Vec<Option<usize>> {
    samples.iter().map(|s| s.label).collect()
}

/// An image of one colour.
fn png(path: &Path, width: u32, height: u32, rgb: [u8; 3]) {
    image::RgbImage::from_pixel(width, height, image::Rgb(rgb)).save(path).unwrap();
}

/// `b.png`, `a.png`, `c.JPG` of known colours, and files that are no images.
fn folder(dir: &TempDir) -> std::path::PathBuf {
    let folder = dir.join("set");
    fs::create_dir(&folder).unwrap();
    png(&folder.join("b.png"), 2, 2, [1, 2, 3]);
    png(&folder.join("a.png"), 2, 2, [4, 5, 6]);
    let c = image::GrayImage::from_pixel(2, 2, image::Luma([7]));
    c.save_with_format(folder.join("c.JPG"), image::ImageFormat::Png).unwrap();
    fs::write(folder.join("notes.txt"), "no image").unwrap();
    fs::create_dir(folder.join("d.png")).unwrap();
    folder
}

#[test]
fn a_folder_is_read_by_name_and_normalized() {
    let dir = temp_dir("folder");
    let folder = folder(&dir);
    let mut options = image(&[1, 3, 2, 2]);
    options.preprocess = Preprocess {
        scale: 2.0,
        mean: vec![1.0, 0.0, 0.0],
        std: vec![1.0, 1.0, 4.0],
        order: ChannelOrder::Bgr,
        ..Preprocess::default()
    };
    let samples = all(&folder, &options);
    assert_eq!(names(&samples), ["a.png", "b.png", "c.JPG"]);
    assert_eq!(labels(&samples), [None; 3]);
    assert_eq!(samples[0].inputs, [[[11.0f32; 4], [10.0; 4], [2.0; 4]].concat()]);
    assert_eq!(samples[2].inputs, [[[13.0f32; 4], [14.0; 4], [3.5; 4]].concat()]);

    options.preprocess = Preprocess { layout: InputLayout::Nhwc, ..Preprocess::default() };
    options.inputs[0].shape = vec![1, 1, 1, 3];
    assert_eq!(all(&folder, &options)[1].inputs, [[1.0, 2.0, 3.0]]);
    // Grey from colours: (4·19595 + 5·38470 + 6·7471 + 2^15) >> 16 = 5.
    options.inputs[0].shape = vec![1, 1, 1, 1];
    assert_eq!(all(&folder.join("a.png"), &options)[0].inputs, [[5.0]]);
}

#[test]
fn picks_the_first_or_spreads() {
    let dir = temp_dir("pick");
    let data: Vec<f32> = (0..10).map(|k| k as f32).collect();
    write_npy(&dir.join("x.npy"), &[10, 1], &data).unwrap();
    let mut options = image(&[1, 1]);
    let mut values = |pick| {
        options.pick = pick;
        all(&dir.join("x.npy"), &options).iter().map(|s| s.inputs[0][0]).collect::<Vec<f32>>()
    };
    assert_eq!(values(Pick::First(3)), [0.0, 1.0, 2.0]);
    assert_eq!(values(Pick::Spread(4)), [0.0, 2.0, 5.0, 7.0]);
    assert_eq!(values(Pick::Spread(99)), data);
    assert_eq!(values(Pick::All), data);
    options.pick = Pick::First(0);
    assert!(error(&dir.join("x.npy"), &options).contains("0 samples asked for"));
}

#[test]
fn label_files_give_order_and_labels() {
    let dir = temp_dir("labels");
    let folder = folder(&dir);
    let csv = |text: &str| fs::write(dir.join("set.csv"), text).unwrap();
    let options = image(&[1, 3, 2, 2]);
    csv("file,class\nc.JPG,2\na.png,0\n");
    let samples = all(&folder, &options);
    assert_eq!((names(&samples), labels(&samples)), (vec!["c.JPG", "a.png"], vec![Some(2), Some(0)]));
    fs::write(folder.join("labels.csv"), "label, file\r\n7, b.png\r\n").unwrap();
    assert_eq!(labels(&all(&folder, &options)), [Some(7)], "labels.csv inside comes before the one beside");
    let given = Options { labels: Some(dir.join("set.csv")), ..options };
    csv("file,person\nb.png,1\n");
    assert_eq!(labels(&all(&folder, &given)), [Some(1)]);
    assert_eq!(labels(&all(&folder.join("b.png"), &given)), [Some(1)]);

    let fails = |text: &str, what: &[&str]| {
        csv(text);
        let message = error(&folder, &given);
        assert!(what.iter().all(|w| message.contains(w)), "{message}");
    };
    fails("", &["set.csv", "file,label"]);
    fails("file,label\n", &["no labels"]);
    fails("file,x,y\na.png,1,2\n", &["no column `label` or `class`", "file,x,y"]);
    fails("label\n1\n", &["no column `file`"]);
    fails("file,label\na.png,cat\n", &["set.csv:2", "`cat`", "integer"]);
    fails("file,label\na.png,-1\n", &["`-1`"]);
    fails("file,label\na.png\n", &["CSV"]);
    fails("file,label\na.png,1\na.png,2\n", &["a.png is listed twice"]);
    fails("file,label\nx.png,1\na.png,1\ny.png,2\n", &["2 problems", "x.png", "y.png", "not in this folder"]);
    fs::remove_file(dir.join("set.csv")).unwrap();
    assert!(error(&folder, &given).contains("set.csv"));
}

#[test]
fn images_that_do_not_decode_are_named() {
    let dir = temp_dir("corrupt");
    let options = image(&[1, 3, 4, 4]);
    let path = dir.join("x.png");
    assert!(error(&path, &options).contains("no such file"));
    png(&path, 64, 64, [9, 8, 7]);
    let good = fs::read(&path).unwrap();
    for bytes in [&good[..good.len() / 2], &good[..3], b"", b"no image at all"] {
        fs::write(&path, bytes).unwrap();
        let message = error(&path, &options);
        assert!(message.contains("x.png") && message.contains("give a readable PNG or JPEG"), "{message}");
    }
    // One byte of the header or data flipped: an error, or an image of the right size, never a panic.
    for k in 0..good.len() {
        let mut bytes = good.clone();
        bytes[k] ^= 1 << (k % 8);
        fs::write(&path, &bytes).unwrap();
        let sample = Samples::open(path.to_str().unwrap(), &options).unwrap().next().unwrap();
        assert!(sample.map_or(true, |s| s.inputs[0].len() == 48));
    }
    // A folder goes on after an image that fails.
    let folder = folder(&dir);
    fs::write(folder.join("aa.jpg"), b"\xff\xd8\xff").unwrap();
    let samples: Vec<_> = Samples::open(folder.to_str().unwrap(), &options).unwrap().collect();
    assert_eq!(samples.iter().map(|s| s.is_ok()).collect::<Vec<_>>(), [true, false, true, true]);
}

#[test]
fn sets_that_do_not_fit_are_refused() {
    let dir = temp_dir("fit");
    let folder = folder(&dir);
    let empty = dir.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(error(&empty, &image(&[1, 3, 2, 2])).contains("no images in this folder"));
    assert!(error(&folder, &image(&[1, 12])).contains("no image [1, C, H, W]"));
    assert!(error(&folder, &image(&[1, 2, 2, 3])).contains("nhwc"));
    assert!(error(&folder, &options(&[("a", &[1, 3, 2, 2]), ("b", &[1, 1])])).contains("2 inputs (a, b)"));
    assert!(error(&folder, &options(&[])).contains("no input"));
    let with = |preprocess| Options { preprocess, ..image(&[1, 3, 2, 2]) };
    let mean = Preprocess { mean: vec![1.0, 2.0], ..Preprocess::default() };
    assert!(error(&folder, &with(mean)).contains("mean has 2 entries for 3 channels"));
    let crop = Preprocess { crop: Some(3), ..Preprocess::default() };
    assert!(error(&folder, &with(crop)).contains("a.png: 2x2 pixels are too few to crop 3x3"));
    fs::write(dir.join("x.gif"), "").unwrap();
    assert!(error(&dir.join("x.gif"), &image(&[1, 3, 2, 2])).contains("unknown kind of file"));
}

#[test]
fn npy_gives_samples_of_every_type() {
    let dir = temp_dir("npy");
    let path = dir.join("x.npy");
    let write = |descr: &str, shape: &str, data: &[u8]| {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend(data);
        fs::write(&path, bytes).unwrap();
    };
    let read =
        |options: &Options| all(&path, options).into_iter().map(|s| s.inputs[0].clone()).collect::<Vec<_>>();
    let shape: &[usize] = &[1, 2, 1, 2];
    let x = [1.5f32, -2.0, 0.0, 4.0];
    for extents in [&[1, 2, 1, 2][..], &[2, 1, 2], &[1, 1, 2, 1, 2]] {
        write_npy(&path, extents, &x).unwrap();
        assert_eq!(read(&image(shape)), [x]);
    }
    write_npy(&path, &[2, 2, 1, 2], &[x, x.map(|v| v + 1.0)].concat()).unwrap();
    let samples = all(&path, &image(shape));
    assert_eq!(names(&samples), ["x.npy#0", "x.npy#1"]);
    assert_eq!(samples[1].inputs, [[2.5, -1.0, 1.0, 5.0]]);
    write("<f8", "2, 1, 2", &x.map(|v| f64::from(v).to_le_bytes()).concat());
    assert_eq!(read(&image(shape)), [x]);
    write(">f4", "2, 1, 2", &x.map(f32::to_be_bytes).concat());
    assert_eq!(read(&image(shape)), [x]);

    // 8-bit elements are normalized per channel, in the network's own order.
    let per_channel =
        Preprocess { mean: vec![1.0, 3.0], scale: 2.0, order: ChannelOrder::Bgr, ..Preprocess::default() };
    let mut options = Options { preprocess: per_channel, ..image(shape) };
    write("|u1", "2, 2, 1, 2", &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(read(&options), [[-1.0, 1.0, 1.0, 3.0], [7.0, 9.0, 9.0, 11.0]]);
    options.preprocess.layout = InputLayout::Nhwc;
    assert_eq!(read(&options)[0], [-1.0, -1.0, 3.0, 3.0]);

    write_npy(&path, &[2, 2], &x).unwrap();
    assert!(
        error(&path, &image(shape)).contains("shape [2, 2] does not fill the input x of shape [1, 2, 1, 2]")
    );
    write_npy(&path, &[0, 2, 1, 2], &[]).unwrap();
    assert!(error(&path, &image(shape)).contains("no samples"));
    write_npy(&path, &[1, 4], &[0.0, 1.0, f32::NAN, 2.0]).unwrap();
    assert!(error(&path, &image(&[1, 4])).contains("sample 0: element 2 of x is NaN"));
    write("<f8", "1, 1", &1e300f64.to_le_bytes());
    assert!(error(&path, &image(&[1, 1])).contains("inf"));
    write("<f4", "1000000, 1000000", &[0; 8]);
    assert!(error(&path, &image(&[1, 1000000])).contains("cut off"));
    write("<i4", "1, 1", &[0; 4]);
    assert!(error(&path, &image(&[1, 1])).contains("astype(numpy.float32)"));
}

/// A zip file of `entries`, packed or stored, as numpy.savez_compressed and numpy.savez write them.
fn zip(path: &Path, entries: &[(&str, Vec<u8>)], packed: bool) {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let mut crc = Crc::new();
        crc.update(data);
        let body = if packed {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        } else {
            data.clone()
        };
        let mut fields = vec![20u8, 0, 0, 0, if packed { 8 } else { 0 }, 0, 0, 0, 0x21, 0];
        for n in [crc.sum(), body.len() as u32, data.len() as u32] {
            fields.extend(n.to_le_bytes());
        }
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend((file.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(fields);
        file.extend(name.as_bytes());
        file.extend(body);
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([(entries.len() as u16).to_le_bytes(); 2].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    fs::write(path, file).unwrap();
}

#[test]
fn npz_fills_several_inputs() {
    let dir = temp_dir("npz");
    let path = dir.join("x.npz");
    let npy = |shape: &[usize], data: &[f32]| {
        write_npy(&dir.join("one.npy"), shape, data).unwrap();
        fs::read(dir.join("one.npy")).unwrap()
    };
    let b: Vec<f32> = (0..6).map(|k| k as f32).collect();
    let both = options(&[("a", &[1, 1]), ("b", &[1, 2])]);
    for packed in [false, true] {
        zip(&path, &[("b.npy", npy(&[3, 2], &b)), ("a.npy", npy(&[3, 1], &[7.0, 8.0, 9.0]))], packed);
        let samples = all(&path, &both);
        assert_eq!(
            samples[2],
            Sample { name: "x.npz#2".into(), label: None, inputs: vec![vec![9.0], vec![4.0, 5.0]] }
        );
        let good = fs::read(&path).unwrap();
        for k in 0..good.len() {
            let mut bytes = good.clone();
            bytes[k] ^= 1 << (k % 8);
            fs::write(&path, &bytes).unwrap();
            if let Ok(samples) = Samples::open(path.to_str().unwrap(), &both) {
                samples.take(10).flatten().for_each(|s| assert_eq!(s.inputs.len(), 2));
            }
            fs::write(&path, &good[..k]).unwrap();
            assert!(error(&path, &both).contains("x.npz"));
        }
    }
    zip(&path, &[("arr_0.npy", npy(&[1], &[7.0]))], true);
    assert_eq!(all(&path, &image(&[1, 1]))[0].inputs, [[7.0]], "a lone array needs no name");
    assert!(error(&path, &both).contains("no array a in it (only arr_0.npy)"));
    zip(&path, &[("a.npy", npy(&[2, 1], &[1.0, 2.0])), ("b.npy", npy(&[3, 2], &b))], false);
    assert!(error(&path, &both).contains("arrays of [2, 3] samples"));
}

#[test]
fn cifar_records_keep_planes_and_labels() {
    let dir = temp_dir("cifar");
    let path = dir.join("x.bin");
    let record = |label: u8| {
        let planes = (0..3072).map(|k| (k / 1024 * 80 + k % 32 + label as usize) as u8);
        std::iter::once(label).chain(planes).collect::<Vec<u8>>()
    };
    fs::write(&path, [record(3), record(9)].concat()).unwrap();
    let options = image(&[1, 3, 32, 32]);
    let samples = all(&path, &options);
    assert_eq!((names(&samples), labels(&samples)), (vec!["x.bin#0", "x.bin#1"], vec![Some(3), Some(9)]));
    let expected: Vec<f32> = record(9)[1..].iter().map(|&b| b.into()).collect();
    assert_eq!(samples[1].inputs, [expected]);
    // Another size: resized as an image.
    assert_eq!(all(&path, &image(&[1, 1, 8, 8])).len(), 2);
    let skipped = Options { pick: Pick::Spread(1), labels: Some(dir.join("l.csv")), ..options.clone() };
    fs::write(dir.join("l.csv"), "class\n5\n6\n").unwrap();
    assert_eq!(labels(&all(&path, &skipped)), [Some(5)]);
    fs::write(dir.join("l.csv"), "class\n5\n").unwrap();
    assert!(error(&path, &skipped).contains("1 labels for 2 samples"));
    fs::write(&path, &record(1)[1..]).unwrap();
    assert!(error(&path, &options).contains("3072 bytes are no whole number of records of 3073"));
    fs::write(&path, []).unwrap();
    assert!(error(&path, &options).contains("no samples"));
}

#[test]
fn mnist_files_with_and_without_gzip() {
    let dir = temp_dir("mnist");
    let images =
        [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]
            .concat();
    let given = [0, 0, 8, 1, 0, 0, 0, 2, 4, 5];
    let gz = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let options = image(&[1, 1, 2, 3]);
    let (plain, packed) = (dir.join("t-images-idx3-ubyte"), dir.join("t-images-idx3-ubyte.gz"));
    fs::write(&plain, &images).unwrap();
    fs::write(&packed, gz(&images)).unwrap();
    fs::write(dir.join("t-labels-idx1-ubyte.gz"), gz(&given)).unwrap();
    assert_eq!(labels(&all(&plain, &options)), [None, None]);
    let samples = all(&packed, &options);
    assert_eq!(labels(&samples), [Some(4), Some(5)]);
    assert_eq!(samples[1].inputs, [[7.0, 8.0, 9.0, 10.0, 11.0, 12.0]]);
    assert_eq!(all(&plain, &image(&[1, 3, 1, 1]))[0].inputs[0].len(), 3);

    fs::write(&packed, &gz(&images)[..20]).unwrap();
    assert!(error(&packed, &options).contains("t-images-idx3-ubyte.gz"));
    fs::write(&plain, &images[..20]).unwrap();
    assert!(error(&plain, &options).contains("record 0 cannot be read"));
    fs::write(&plain, &images[..9]).unwrap();
    assert!(error(&plain, &options).contains("cut off"));
    fs::write(&plain, given).unwrap();
    assert!(error(&plain, &options).contains("idx"));
    let huge = [&[0, 0, 8, 3], &[255u8; 12][..]].concat();
    fs::write(&plain, huge).unwrap();
    assert!(error(&plain, &options).contains("not an MNIST file"));
}

#[test]
fn random_is_the_same_every_time() {
    let mut options = options(&[("a", &[1, 2]), ("b", &[1, 1, 3, 3])]);
    let nowhere = Path::new("random");
    assert_eq!(all(nowhere, &options).len(), Samples::RANDOM_COUNT);
    options.pick = Pick::First(3);
    let samples = all(nowhere, &options);
    assert_eq!(samples, all(nowhere, &options));
    assert_eq!(names(&samples), ["random#0", "random#1", "random#2"]);
    assert_eq!(samples[2].inputs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 9]);
    assert_ne!(samples[0].inputs, samples[1].inputs);
    assert_eq!(samples[0].inputs[0], [0.823_575_85, -0.770_876_77], "the first numbers, frozen");
}

#[test]
fn class_names_are_lines() {
    let dir = temp_dir("names");
    let path = dir.join("names.txt");
    fs::write(&path, "\u{feff}tench, Tinca\r\ngoldfish\r\n\n").unwrap();
    assert_eq!(class_names(&path).unwrap(), ["tench, Tinca", "goldfish"]);
    fs::write(&path, "\n").unwrap();
    assert!(class_names(&path).unwrap_err().to_string().contains("no class names"));
    assert!(class_names(&dir.join("none")).unwrap_err().to_string().contains("none: cannot be read"));
}

#[test]
fn the_demo_digits_are_records() {
    let options = image(&[1, 1, 16, 16]);
    let demo = workspace_root().join("compiler/demo");
    let digits = all(&demo.join("digits_test.bin"), &options);
    assert_eq!(digits.len(), 397);
    assert!(digits.iter().all(|d| d.label.is_some_and(|l| l < 10)));
    assert_eq!(all(&demo.join("digits_calib.bin"), &options).len(), 200);
    static TWO: [u8; 10] = [3, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let samples = Samples::from_records("two", &TWO, &image(&[1, 1, 2, 2])).unwrap();
    let samples: Vec<Sample> = samples.map(Result::unwrap).collect();
    assert_eq!(
        samples[1],
        Sample { name: "two#1".into(), label: Some(5), inputs: vec![vec![6.0, 7.0, 8.0, 9.0]] }
    );
}

#[test]
fn the_real_sets_open() {
    let Some(data) = data_dir() else { return };
    let images = data.join("images");
    let open = |name: &str, shape: &[usize], n| {
        let options = Options { pick: Pick::First(n), ..image(shape) };
        all(&images.join(name), &options)
    };
    let imagenet = open("imagenet_sample", &[1, 3, 224, 224], 3);
    assert_eq!(labels(&imagenet), [Some(0), Some(2), Some(4)]);
    assert_eq!(open("cifar10_test_jpeg.bin", &[1, 3, 32, 32], 10_001).len(), 10_000);
    let mnist = open("mnist-t10k-images-idx3-ubyte.gz", &[1, 1, 28, 28], 2);
    assert_eq!(labels(&mnist), [Some(7), Some(2)]);
    assert_eq!(open("coco_val", &[1, 3, 96, 96], 2)[0].label, None);
    assert_eq!(class_names(&images.join("imagenet_classes.txt")).unwrap().len(), 1000);
}
