//! Label files: CSV with a header, or MNIST idx; and lists of class names.

use super::failure;
use crate::error::{Problem, Result, Stage};
use flate2::read::MultiGzDecoder;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// One row of a label file.
pub(super) struct Row {
    /// The `file` column, if there is one.
    pub(super) file: Option<String>,
    pub(super) label: usize,
}

/// Reads a label file. CSV: a header, a column `label` or `class` (or the only column beside `file`) of integers from 0, a
/// column `file` that names no file twice. Idx (`idx1` in the name): one byte each, `.gz` or not.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let rows = if is_idx(path) { read_idx(path)? } else { read_csv(path)? };
    if rows.is_empty() { Err(failure(path, "no labels in it")) } else { Ok(rows) }
}

/// The labels of a set of `count` samples whose order the file follows.
pub(super) fn in_order(path: &Path, count: usize) -> Result<Vec<usize>> {
    let rows = read(path)?;
    if rows.len() != count {
        return Err(failure(
            path,
            format!("{} labels for {count} samples: give the labels of this set", rows.len()),
        ));
    }
    Ok(rows.into_iter().map(|r| r.label).collect())
}

/// Class names, one a line: line k (from 0) names class k.
///
/// # Errors
/// The file cannot be read, is not UTF-8, or is empty.
pub fn class_names(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        failure(path, format!("cannot be read ({e}): give a text file with one class name a line"))
    })?;
    let names: Vec<String> =
        text.trim_start_matches('\u{feff}').trim_end().lines().map(|l| l.trim().to_string()).collect();
    if names.is_empty() { Err(failure(path, "no class names in it: give one a line")) } else { Ok(names) }
}

/// Opens a file, through gzip if its name ends with `.gz`.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(|e| failure(path, format!("cannot be opened ({e})")))?;
    let gz = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    Ok(if gz {
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
    } else {
        Box::new(BufReader::new(file))
    })
}

/// Reads the header of an idx file of unsigned bytes: its extents.
pub(super) fn idx_header(path: &Path, reader: &mut dyn Read, rank: usize) -> Result<Vec<usize>> {
    let mut header = vec![0; 4 + 4 * rank];
    reader.read_exact(&mut header).map_err(|e| failure(path, format!("the idx header is cut off ({e})")))?;
    if header[..4] != [0, 0, 8, rank as u8] {
        let what = format!(
            "not an idx file of unsigned bytes with {rank} axes (it starts with {:02x?})",
            &header[..4]
        );
        return Err(failure(path, format!("{what}: give MNIST's own files, gzipped or not")));
    }
    let extent = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize;
    Ok(header[4..].chunks_exact(4).map(extent).collect())
}

fn is_idx(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.contains("idx1"))
}

fn read_idx(path: &Path) -> Result<Vec<Row>> {
    let mut reader = open(path)?;
    let count = idx_header(path, &mut reader, 1)?[0];
    let mut bytes = Vec::new();
    let read = reader.take(count as u64).read_to_end(&mut bytes);
    read.map_err(|e| failure(path, format!("does not decode ({e})")))?;
    if bytes.len() != count {
        return Err(failure(path, format!("cut off: {} of {count} labels", bytes.len())));
    }
    Ok(bytes.into_iter().map(|b| Row { file: None, label: b.into() }).collect())
}

/// Whether a CSV has the header of labels: one that nobody named, but that lies where labels would, may be about something else.
pub(super) fn has_header(path: &Path) -> bool {
    let header = csv(path).and_then(|mut reader| reader.headers().cloned());
    header.is_ok_and(|h| matches!(columns(&h), (Some(_), Some(_))))
}

fn csv(path: &Path) -> csv::Result<csv::Reader<File>> {
    csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path)
}

/// Where the file names and the labels are.
fn columns(header: &csv::StringRecord) -> (Option<usize>, Option<usize>) {
    let column = |names: &[&str]| header.iter().position(|h| names.iter().any(|n| h.eq_ignore_ascii_case(n)));
    let file = column(&["file"]);
    let only_other = (header.len() == 2).then(|| file.map(|f| 1 - f)).flatten();
    (file, column(&["label", "class"]).or(only_other))
}

fn read_csv(path: &Path) -> Result<Vec<Row>> {
    let fail = |what: String| failure(path, format!("{what}: give a CSV with the header `file,label`"));
    let mut reader = csv(path).map_err(|e| fail(format!("cannot be read ({e})")))?;
    let header = reader.headers().map_err(|e| fail(format!("does not read as CSV ({e})")))?.clone();
    let (file, label) = columns(&header);
    let Some(label) = label else {
        let found: Vec<&str> = header.iter().collect();
        return Err(fail(format!("no column `label` or `class` in the header `{}`", found.join(","))));
    };
    let (mut rows, mut seen, mut problems) = (Vec::new(), HashSet::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|e| fail(format!("does not read as CSV ({e})")))?;
        let line = record.position().map_or(0, |p| p.line());
        let mut problem = |message: String| {
            problems.push(Problem { subject: format!("{}:{line}", path.display()), message });
        };
        let name = file.and_then(|k| record.get(k)).map(str::to_string);
        if name.as_deref() == Some("") {
            problem("no file name".into());
        }
        if let Some(name) = &name
            && !seen.insert(name.clone())
        {
            problem(format!("{name} is listed twice: one label a file"));
        }
        let text = record.get(label).unwrap_or("");
        match text.parse() {
            Ok(label) => rows.push(Row { file: name, label }),
            Err(_) => problem(format!("the label `{text}` is no class index: give an integer from 0")),
        }
        if problems.len() == MAX_PROBLEMS {
            break;
        }
    }
    crate::Error::all(Stage::Data, problems)?;
    Ok(rows)
}

/// As many problems as somebody will read.
pub(super) const MAX_PROBLEMS: usize = 10;
