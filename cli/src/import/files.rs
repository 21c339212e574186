//! Files that come of an import: all of them or none.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes files into a folder, all or none: each beside its place first, then all are moved there. Files that hold keys are for
/// their owner alone.
pub(super) fn write_files(folder: &Path, files: &[(PathBuf, Vec<u8>, bool)]) -> Result<(), String> {
    let mut done = Vec::new();
    let written = files
        .iter()
        .try_for_each(|(name, content, secret)| write_beside(&folder.join(name), content, *secret, &mut done))
        .and_then(|()| done.iter_mut().try_for_each(Step::replace));
    for step in done.iter().rev() {
        match written {
            Ok(()) => drop(fs::remove_file(&step.old)),
            Err(_) => step.undo(),
        }
    }
    written
}

/// A file that is about to be replaced.
struct Step {
    path: PathBuf,
    /// What it will be.
    new: PathBuf,
    /// What it was.
    old: PathBuf,
    kept: bool,
    replaced: bool,
}

fn write_beside(path: &Path, content: &[u8], secret: bool, done: &mut Vec<Step>) -> Result<(), String> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|error| wrong(parent, &error))?;
    let named = |more: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(more);
        parent.join(name)
    };
    let step =
        Step { path: path.to_owned(), new: named(".new"), old: named(".old"), kept: false, replaced: false };
    let _ = fs::remove_file(&step.new);
    let mode = if secret { 0o600 } else { 0o644 };
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&step.new);
    let written = opened.and_then(|mut file| file.write_all(content));
    let written = written.map_err(|error| wrong(&step.new, &error));
    done.push(step);
    written
}

impl Step {
    fn replace(&mut self) -> Result<(), String> {
        if self.path.is_dir() {
            return Err(format!("{}: this is a folder", self.path.display()));
        }
        if self.path.exists() {
            fs::rename(&self.path, &self.old).map_err(|error| wrong(&self.path, &error))?;
            self.kept = true;
        }
        fs::rename(&self.new, &self.path).map_err(|error| wrong(&self.path, &error))?;
        self.replaced = true;
        Ok(())
    }

    fn undo(&self) {
        let _ = fs::remove_file(if self.replaced { &self.path } else { &self.new });
        if self.kept {
            let _ = fs::rename(&self.old, &self.path);
        }
    }
}

fn wrong(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::write_files;

    fn files(folder: &Path) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            Some((name, fs::read_to_string(entry.path()).ok()?))
        };
        entries.filter_map(file).collect()
    }

    #[test]
    fn all_files_are_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let named = |name: &str, text: &str, secret| (PathBuf::from(name), text.as_bytes().to_vec(), secret);
        write_files(folder, &[named("a", "1", false), named("b", "1", true)]).unwrap();
        write_files(folder, &[named("a", "2", false), named("b", "2", true)]).unwrap();
        let there = files(folder);
        assert_eq!(there, BTreeMap::from([("a".into(), "2".into()), ("b".into(), "2".into())]));
        let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode("b"), 0);
        // What cannot be moved to its place, and what cannot be written.
        fs::create_dir(folder.join("c")).unwrap();
        for (bad, said) in [("c", "this is a folder"), ("a/d", "")] {
            let wrong = [named("a", "3", false), named("e", "3", false), named(bad, "3", false)];
            assert!(write_files(folder, &wrong).unwrap_err().contains(said), "{bad}");
            assert_eq!(files(folder), there, "{bad}");
        }
    }
}
