//! The command line, driven as users drive it: the real program, its exit code and what it prints.
//!
//! - `documented`: every command in the README and in `--help` runs.
//! - `interface`: options, JSON keys, engines, exit codes, pipes.
//! - `models`, `samples`: bad models; bad images, arrays and labels.
//! - `pictures`: what draws.

mod documented;
mod interface;
mod models;
mod pictures;
mod samples;

use crate::support::{TempDir, temp_dir, workspace_root};
use qgraph_compiler::target::Target;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than any command here takes, even beside other work: who is not done by then hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a command did.
struct Ran {
    command: String,
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// The program in a folder, its arguments separated by spaces.
fn command(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qgraph-under-test"));
    command.current_dir(dir).args(line.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs a command to its end. Whatever it is: it ends, by itself, and does not panic.
fn qgraph(dir: &Path, line: &str) -> Ran {
    let mut child = command(dir, line)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program that cargo built starts");
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let read = |pipe: &mut dyn Read| {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("pipes are readable");
        String::from_utf8(bytes).expect("the program prints UTF-8")
    };
    let started = Instant::now();
    let (status, stdout, stderr) = std::thread::scope(|scope| {
        let stdout = scope.spawn(move || read(&mut out));
        let stderr = scope.spawn(move || read(&mut err));
        let status = loop {
            match child.try_wait().expect("the child is ours") {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => {
                    child.kill().expect("the child is ours");
                    panic!("`qgraph {line}` hangs");
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        (status, stdout.join().expect("reads"), stderr.join().expect("reads"))
    });
    assert!(!stderr.contains("panicked"), "qgraph {line}: {stderr}");
    Ran { command: format!("qgraph {line}"), status, stdout, stderr }
}

impl Ran {
    fn say(&self) -> String {
        let Ran { command, status, stdout, stderr } = self;
        format!("{command}: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }

    /// It succeeded, and printed no progress, for nobody watches. Gives stdout.
    fn works(self) -> String {
        assert_eq!(self.status.code(), Some(0), "{}", self.say());
        // Without machine code it says so, once.
        let quiet = self.stderr.lines().all(|l| l.contains("no AVX-512 VNNI") && !has_jit());
        assert!(quiet && !self.stdout.contains('\u{1b}'), "{}", self.say());
        self.stdout
    }

    /// It succeeded, and printed one JSON value.
    fn json(self) -> serde_json::Value {
        let say = self.say();
        serde_json::from_str(&self.works()).unwrap_or_else(|e| panic!("{e}: {say}"))
    }

    /// It refused the input as the user's mistake: exit code 2, nothing on stdout, `qgraph: ` and all of `words` on stderr.
    fn refuses(self, words: &[&str]) {
        assert_eq!(self.status.code(), Some(2), "{}", self.say());
        let ours = |l: &&str| has_jit() || !l.contains("running the kernel interpreter");
        let stderr: Vec<&str> = self.stderr.lines().filter(ours).collect();
        assert!(stderr.first().is_some_and(|l| l.starts_with("qgraph: ")), "{}", self.say());
        assert!(self.stdout.is_empty(), "{}", self.say());
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not said: {}", self.say());
        }
    }
}

/// Whether this machine runs machine code.
fn has_jit() -> bool {
    Target::detect() == Target::avx512vnni()
}

/// A file of the demo network.
fn demo_file(name: &str) -> PathBuf {
    workspace_root().join("compiler/demo").join(name)
}

/// A folder with the demo network as `digits.onnx`, quantized as `digits.qgraph`, its test digits as `test.bin`, and in `images/`
/// ten of them as PNG, with `images.csv` beside it.
fn digits(name: &str) -> TempDir {
    let dir = temp_dir(name);
    fs::copy(demo_file("digits.onnx"), dir.join("digits.onnx")).unwrap();
    fs::copy(demo_file("digits_calib.bin"), dir.join("calib.bin")).unwrap();
    fs::copy(demo_file("digits_test.bin"), dir.join("test.bin")).unwrap();
    let stdout = qgraph(
        dir.path(),
        "quantize digits.onnx --calib calib.bin --scale 0.003921569 -o digits.qgraph --save-profile profile.json",
    )
    .works();
    assert!(stdout.ends_with("wrote profile.json\nwrote digits.qgraph\n"), "{stdout}");
    let mut csv = "file,label\n".to_string();
    fs::create_dir(dir.join("images")).unwrap();
    for (k, record) in fs::read(dir.join("test.bin")).unwrap().chunks_exact(257).take(10).enumerate() {
        let digit = image::GrayImage::from_raw(16, 16, record[1..].to_vec()).unwrap();
        digit.save(dir.join(format!("images/{k}.png"))).unwrap();
        csv += &format!("{k}.png,{}\n", record[0]);
    }
    fs::write(dir.join("images.csv"), csv).unwrap();
    dir
}
