//! Image files as samples: a folder in the order of its names, or of its label file; or one image.

use super::labels::{self, MAX_PROBLEMS};
use super::pixels::ImageInput;
use super::{Kind, Options, Sample, Source, failure, only_input};
use crate::error::{Error, Problem, Result, Stage};
use std::path::{Path, PathBuf};

/// A list of image files.
pub(super) struct Folder {
    folder: PathBuf,
    /// Names relative to the folder, and labels.
    files: Vec<(String, Option<usize>)>,
    input: ImageInput,
    labelled: bool,
}

impl Folder {
    /// With a label file (given or found): its rows. Without: every PNG and JPEG of the folder (not of folders in it), by name.
    pub(super) fn open(folder: &Path, options: &Options) -> Result<Folder> {
        let input = ImageInput::new(folder, only_input(folder, options)?, &options.preprocess)?;
        let labels = options.labels.clone().or_else(|| find_labels(folder));
        let files = match &labels {
            Some(path) => listed(folder, path)?,
            None => images(folder)?.into_iter().map(|name| (name, None)).collect(),
        };
        if files.is_empty() {
            return Err(failure(
                folder,
                "no images in this folder: give a folder with PNG or JPEG files in it",
            ));
        }
        Ok(Folder { folder: folder.to_path_buf(), files, input, labelled: labels.is_some() })
    }

    /// One image; a label file may list it among others.
    pub(super) fn single(path: &Path, options: &Options) -> Result<Folder> {
        let input = ImageInput::new(path, only_input(path, options)?, &options.preprocess)?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let label = match &options.labels {
            None => None,
            Some(labels) => {
                let row =
                    labels::read(labels)?.into_iter().find(|r| r.file.as_deref() == Some(name.as_str()));
                Some(row.ok_or_else(|| failure(labels, format!("{name} is not listed: add it")))?.label)
            }
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Folder { folder, labelled: label.is_some(), files: vec![(name, label)], input })
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn labelled(&self) -> bool {
        self.labelled
    }

    fn get(&mut self, index: usize) -> Result<Sample> {
        let (name, label) = &self.files[index];
        let tensor = self.input.file(&self.folder.join(name))?;
        Ok(Sample { name: name.clone(), label: *label, inputs: vec![tensor] })
    }
}

/// `labels.csv` in the folder, or `FOLDER.csv` beside it, with the header of labels.
fn find_labels(folder: &Path) -> Option<PathBuf> {
    let beside = folder.file_name().map(|name| {
        let mut name = name.to_os_string();
        name.push(".csv");
        folder.with_file_name(name)
    });
    [Some(folder.join("labels.csv")), beside].into_iter().flatten().find(|p| labels::has_header(p))
}

/// Names of the images in a folder, sorted by bytes.
fn images(folder: &Path) -> Result<Vec<String>> {
    let fail = |e: std::io::Error| failure(folder, format!("cannot be listed ({e})"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if Kind::of(&path) == Some(Kind::Image) && path.is_file() {
            // `Kind::of` saw the name as UTF-8.
            names.extend(path.file_name().and_then(|n| n.to_str()).map(str::to_string));
        }
    }
    names.sort();
    Ok(names)
}

/// The rows of a label file; all files must be there.
fn listed(folder: &Path, labels: &Path) -> Result<Vec<(String, Option<usize>)>> {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for row in labels::read(labels)? {
        let Some(name) = row.file else {
            return Err(failure(
                labels,
                "no column `file` in the header: images are found by it, give `file,label`",
            ));
        };
        if !folder.join(&name).is_file() && problems.len() < MAX_PROBLEMS {
            let message = format!(
                "listed in {} but not in this folder: give the folder the list is about",
                labels.display()
            );
            problems.push(Problem { subject: folder.join(&name).display().to_string(), message });
        }
        files.push((name, Some(row.label)));
    }
    Error::all(Stage::Data, problems)?;
    Ok(files)
}
