//! Images, arrays, records and labels that are not what they should be: refused at stage `data`, with the file's own name.

use super::*;
use image::codecs::jpeg::JpegEncoder;

/// The start of a PNG that claims to be 100,000 pixels wide and high.
fn bomb() -> Vec<u8> {
    let mut png = Vec::new();
    let picture = image::GrayImage::new(8, 8);
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    let side = 100_000u32.to_be_bytes();
    png[16..20].copy_from_slice(&side);
    png[20..24].copy_from_slice(&side);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    png
}

#[test]
fn images_that_do_not_decode_are_named() {
    let dir = digits("broken");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).unwrap();
    let png = fs::read(dir.join("images/0.png")).unwrap();
    let mut jpeg = Vec::new();
    let picture = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * y) as u8, x as u8, y as u8]));
    JpegEncoder::new(&mut jpeg).encode_image(&picture).unwrap();
    write("whole.jpg", &jpeg);
    write("cut.png", &png[..png.len() / 2]);
    write("cut.jpg", &jpeg[..jpeg.len() / 2]);
    write("head.jpg", &jpeg[..40]);
    write("text.png", b"this is no picture");
    write("text.jpeg", b"nor is this");
    write("empty.png", b"");
    write("lfs.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n");
    write("bomb.png", &bomb());
    qgraph(dir.path(), "run digits.qgraph --input whole.jpg").works();
    for name in ["cut.png", "cut.jpg", "head.jpg", "text.png", "text.jpeg", "empty.png", "bomb.png"] {
        let words = [&format!("qgraph: data: {name}: "), "does not decode", "give a readable PNG or JPEG"];
        qgraph(dir.path(), &format!("run digits.qgraph --input {name}")).refuses(&words);
    }
    qgraph(dir.path(), "run digits.qgraph --input lfs.png")
        .refuses(&["data: lfs.png: is a git-LFS pointer", "git lfs pull"]);
    // One broken among good ones.
    fs::copy(dir.join("cut.png"), dir.join("images/5.png")).unwrap();
    for line in [
        "quantize digits.onnx --calib images -o o.qgraph",
        "compare digits.onnx digits.qgraph --images images",
        "compare digits.onnx digits.qgraph --images images --json",
    ] {
        qgraph(dir.path(), line).refuses(&["qgraph: data: images/5.png: does not decode"]);
    }
    assert!(!dir.join("o.qgraph").exists());
    // Bits flipped anywhere in an image: an answer or this error.
    for (name, bytes) in [("flip.png", &png), ("flip.jpg", &jpeg)] {
        for k in 0..40 {
            let mut bad = bytes.clone();
            bad[k * bytes.len() / 40] ^= 1 << (k % 8);
            write(name, &bad);
            let ran = qgraph(dir.path(), &format!("run digits.qgraph --input {name}"));
            if !ran.status.success() {
                ran.refuses(&[&format!("qgraph: data: {name}: ")]);
            }
        }
    }
}

#[test]
fn sets_that_do_not_fit_are_refused() {
    let dir = digits("sets");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::create_dir(dir.join("texts")).unwrap();
    write("texts/a.txt", b"a");
    write("some.bin", &[0; 300]);
    write("picture.gif", b"GIF89a");
    write("t10k-images-idx3-ubyte", &[0, 0, 8, 1, 0, 0]);
    write("zip.npz", b"PK\x03\x04");
    let npy = |name: &str, shape: &[usize], data: &[f32]| {
        qgraph_compiler::data::write_npy(&dir.join(name), shape, data).unwrap();
    };
    npy("wide.npy", &[1, 1, 16, 17], &[0.0; 272]);
    npy("whole.npy", &[1, 1, 16, 16], &[0.5; 256]);
    let mut nan = [0.0; 256];
    nan[99] = f32::NAN;
    npy("nan.npy", &[1, 1, 16, 16], &nan);
    let whole = fs::read(dir.join("whole.npy")).unwrap();
    write("cut.npy", &whole[..whole.len() - 100]);
    write("head.npy", &whole[..20]);
    let cases: [(&str, &[&str]); _] = [
        ("no", &["data: no: no such file or folder", "`random`"]),
        ("no.png", &["data: no.png: no such file"]),
        ("empty", &["data: empty: no images in this folder"]),
        ("texts", &["data: texts: no images in this folder"]),
        ("picture.gif", &["data: picture.gif: unknown kind of file"]),
        ("digits.onnx", &["data: digits.onnx: unknown kind of file"]),
        ("some.bin", &["data: some.bin: 300 bytes are no whole number of records"]),
        ("t10k-images-idx3-ubyte", &["data: t10k-images-idx3-ubyte: "]),
        ("zip.npz", &["data: zip.npz: not a readable .npz"]),
        ("wide.npy", &["data: wide.npy: ", "[1, 1, 16, 17]"]),
        ("nan.npy", &["data: nan.npy: ", "NaN"]),
        ("cut.npy", &["data: cut.npy: "]),
        ("head.npy", &["data: head.npy: the .npy header is cut off"]),
        ("images --samples 0", &["data: images: 0 samples asked for"]),
        ("images --mean 1,2,3", &["data: images: mean has 3 entries for 1 channels"]),
        ("images --std 0", &["data: images: std contains 0"]),
        ("images --scale inf", &["data: images: scale is inf"]),
        ("images --crop 0", &["data: images: crop is 0"]),
        ("images --crop 40", &["data: images/0.png: 16x16 pixels are too few to crop 40x40"]),
        ("images --resize 1000000", &["data: images/0.png: ", "too many to resize"]),
        ("images --layout nhwc", &["data: images: the input x has shape [1, 1, 16, 16]", "layout nchw"]),
    ];
    for (set, words) in cases {
        qgraph(dir.path(), &format!("quantize digits.onnx --calib {set} -o o.qgraph")).refuses(words);
        assert!(!dir.join("o.qgraph").exists());
    }
    qgraph(dir.path(), "quantize digits.onnx --calib whole.npy -o o.qgraph").works();
    // Read by the same code for `run` and `compare`.
    qgraph(dir.path(), "run digits.qgraph --input empty").refuses(&["data: empty: no images"]);
    qgraph(dir.path(), "run digits.qgraph --input cut.npy").refuses(&["data: cut.npy: "]);
    qgraph(dir.path(), "compare digits.onnx digits.qgraph --images no").refuses(&["data: no: no such file"]);
    qgraph(dir.path(), "compare digits.onnx digits.qgraph --images images --limit 0").refuses(&["0 samples"]);
}

#[test]
fn labels_that_do_not_fit_are_refused() {
    let dir = digits("labels");
    fs::remove_file(dir.join("images.csv")).unwrap();
    let cases: [(&str, &[&str]); _] = [
        ("file,label\n0.png,1\ngone.png,2\n", &["images/gone.png", "listed in l.csv but not in this folder"]),
        (
            "file,label\n0.png,cat\n1.png,-1\n",
            &["data: 2 problems", "l.csv:2: the label `cat`", "l.csv:3: the label `-1`"],
        ),
        ("file,label\n0.png,1\n0.png,2\n", &["data: l.csv:3: 0.png is listed twice"]),
        ("file,label\n0.png,10\n", &["data: 0.png: its label is 10, but the output has 10 values"]),
        ("name,kind\n0.png,1\n", &["data: l.csv: no column `label` or `class` in the header `name,kind`"]),
        ("label\n1\n", &["data: l.csv: no column `file`"]),
        ("file,label\n", &["data: l.csv: no labels in it"]),
        ("", &["data: l.csv: "]),
        ("file,label\n0.png,1,2\n", &["data: l.csv: does not read as CSV"]),
        ("file,label\n0.png,\u{0}\n", &["data: l.csv:2: the label"]),
    ];
    for (csv, words) in cases {
        fs::write(dir.join("l.csv"), csv).unwrap();
        qgraph(dir.path(), "compare digits.onnx digits.qgraph --images images --labels l.csv").refuses(words);
    }
    fs::write(dir.join("l.csv"), b"file,label\n\xff\xfe.png,1\n").unwrap();
    qgraph(dir.path(), "compare digits.onnx digits.qgraph --images images --labels l.csv")
        .refuses(&["data: l.csv: "]);
    let missing = "compare digits.onnx digits.qgraph --images images --labels no.csv";
    qgraph(dir.path(), missing)
        .refuses(&["data: no.csv: cannot be read", "give a CSV with the header `file,label`"]);
    fs::write(dir.join("l.csv"), "label\n1\n2\n").unwrap();
    qgraph(dir.path(), "compare digits.onnx digits.qgraph --images test.bin --labels l.csv")
        .refuses(&["data: l.csv: 2 labels for 397 samples"]);
    // A CSV where labels would be found, but about something else: calibration goes on, and `compare` asks for labels.
    fs::write(dir.join("images.csv"), "id,breed,age\n7,dachshund,3\n").unwrap();
    qgraph(dir.path(), "quantize digits.onnx --calib images -o o.qgraph").works();
    let text = qgraph(dir.path(), "compare digits.onnx digits.qgraph --images images").works();
    assert!(text.contains("\n10 images without labels (give --labels for accuracy)\n"), "{text}");
    // Names of classes.
    qgraph(dir.path(), "run digits.qgraph --input random --labels no.txt")
        .refuses(&["data: no.txt: cannot be read"]);
    qgraph(dir.path(), "run digits.qgraph --input random --labels images")
        .refuses(&["data: images: cannot be read"]);
    qgraph(dir.path(), "run digits.qgraph --input random --labels digits.onnx")
        .refuses(&["data: digits.onnx: cannot be read"]);
}
