//! The error of every stage: which stage, which node, what is wrong and what cures it.

use std::fmt;
use std::path::Path;

/// A verb of the pipeline, for errors and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading files: images, arrays, labels.
    Data,
    /// ONNX to graph.
    Import,
    /// Graph to fused graph.
    Fuse,
    /// Running samples to find ranges.
    Calibrate,
    /// Fused graph to integer graph.
    Quantize,
    /// Reading or writing `.qgraph`.
    File,
    /// Integer graph to plan.
    Schedule,
    /// Plan to machine code.
    Jit,
    /// Plan to Rust source.
    Emit,
    /// Integer graph to ONNX.
    Export,
    /// Running a compiled model.
    Run,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Data => "data",
            Stage::Import => "import",
            Stage::Fuse => "fuse",
            Stage::Calibrate => "calibrate",
            Stage::Quantize => "quantize",
            Stage::File => "file",
            Stage::Schedule => "schedule",
            Stage::Jit => "jit",
            Stage::Emit => "emit",
            Stage::Export => "export",
            Stage::Run => "run",
        })
    }
}

/// One thing wrong, in words: an optional node and a message that ends with the cure where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Node, value or file it is about; empty if it is about the whole.
    pub subject: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// An error of the compiler: a stage and everything found wrong there, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub stage: Stage,
    /// All of it.
    pub problems: Vec<Problem>,
}

/// Result of every stage.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// One problem about `subject` (a node, value or file name; may be empty).
    pub fn new(stage: Stage, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Error { stage, problems: vec![Problem { subject: subject.into(), message: message.into() }] }
    }

    /// Several problems at once; `Ok` if there are none.
    pub fn all(stage: Stage, problems: Vec<Problem>) -> Result<()> {
        if problems.is_empty() { Ok(()) } else { Err(Error { stage, problems }) }
    }

    /// Says which file it is about: before every subject that does not begin with it already.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        let file = path.display().to_string();
        for p in &mut self.problems {
            match p.subject.strip_prefix(&file) {
                Some(rest) if rest.is_empty() || rest.starts_with(':') => {}
                _ if p.subject.is_empty() => p.subject.clone_from(&file),
                _ => p.subject = format!("{file}: {}", p.subject),
            }
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = self.problems.len() > 1;
        if many {
            write!(f, "{}: {} problems", self.stage, self.problems.len())?;
        }
        for p in &self.problems {
            if many {
                f.write_str("\n  ")?;
            } else {
                write!(f, "{}: ", self.stage)?;
            }
            if !p.subject.is_empty() {
                write!(f, "{}: ", p.subject)?;
            }
            f.write_str(&p.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_file_once() {
        let problem = |subject: &str| Problem { subject: subject.into(), message: "is wrong".into() };
        let problems = ["", "conv1", "a.onnx", "a.onnx: conv2", "a.onnx:7", "a.onnx2"].map(problem).to_vec();
        let error = Error { stage: Stage::Import, problems }.in_file("a.onnx".as_ref());
        let subjects: Vec<&str> = error.problems.iter().map(|p| p.subject.as_str()).collect();
        let expected = ["a.onnx", "a.onnx: conv1", "a.onnx", "a.onnx: conv2", "a.onnx:7", "a.onnx: a.onnx2"];
        assert_eq!(subjects, expected);
        assert_eq!(error.clone().in_file("a.onnx".as_ref()), error);
    }
}
