//! Follows a file as `tail -F` does: what is written next, also after it was rotated or cut; whole lines alone.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// No line is longer: Envoy's are bounded by what `bootstrap` lets into them.
pub const LONGEST: usize = 1024 * 1024;

/// So much is read at once.
const PIECE: usize = 64 * 1024;

/// Pieces become lines. A line that has no end yet waits for it.
#[derive(Debug, Default)]
pub struct Lines {
    open: Vec<u8>,
    too_long: bool,
}

/// A line without its end, or that it was too long and is lost.
pub type Line<'a> = Result<&'a [u8], TooLong>;

/// A line was longer than [`LONGEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// Takes a piece, and hands on every line that ends in it; whether it goes on.
    pub fn take(&mut self, piece: &[u8], tell: &mut dyn FnMut(Line<'_>) -> bool) -> bool {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            if self.too_long || self.open.len().saturating_add(text.len()) > LONGEST {
                self.too_long = true;
                self.open = Vec::new();
            } else if !(ends && self.open.is_empty()) {
                self.open.extend_from_slice(text);
            }
            if ends {
                let line = match (self.too_long, self.open.is_empty()) {
                    (true, _) => Err(TooLong),
                    (false, true) => Ok(text),
                    (false, false) => Ok(self.open.as_slice()),
                };
                let goes_on = tell(line);
                self.too_long = false;
                self.open.clear();
                if !goes_on {
                    return false;
                }
            }
        }
        true
    }

    /// What was written last has no end, and will have none.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Line<'_>) -> bool) -> bool {
        self.open.is_empty() && !self.too_long || self.take(b"\n", tell)
    }
}

/// Where lines come from.
pub enum Input {
    /// It ends.
    Stream(Box<dyn Read>),
    /// It does not.
    File(Follow),
}

/// A file that grows.
pub struct Follow {
    path: PathBuf,
    file: File,
    /// How far it was read.
    read: u64,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// There may be more.
    Yes,
    /// Not now.
    Later,
    /// Never.
    No,
}

impl Input {
    /// Standard input (`-`), or a file, from its end on if only what is `new` is wanted. What is no regular file ends as
    /// standard input does.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(name: &str, new: bool) -> io::Result<Self> {
        if name == "-" {
            return Ok(Input::Stream(Box::new(io::stdin())));
        }
        let mut file = File::open(name)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::other("this is a folder; give the file that Envoy logs to"));
        }
        if !metadata.is_file() {
            return Ok(Input::Stream(Box::new(file)));
        }
        let read = if new { file.seek(SeekFrom::End(0))? } else { 0 };
        Ok(Input::File(Follow { path: name.into(), file, read }))
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// That it cannot be read any more.
    pub fn read(&mut self, lines: &mut Lines, tell: &mut dyn FnMut(Line<'_>) -> bool) -> io::Result<More> {
        let mut piece = vec![0; PIECE];
        let (length, follow) = match self {
            Input::Stream(stream) => (stream.read(&mut piece)?, None),
            Input::File(follow) => (follow.file.read(&mut piece)?, Some(follow)),
        };
        let Some(follow) = follow else {
            let goes_on = match length {
                0 => {
                    lines.finish(tell);
                    false
                }
                _ => lines.take(piece.get(..length).unwrap_or_default(), tell),
            };
            return Ok(if goes_on { More::Yes } else { More::No });
        };
        if length > 0 {
            follow.read = follow.read.saturating_add(length as u64);
            let goes_on = lines.take(piece.get(..length).unwrap_or_default(), tell);
            return Ok(if goes_on { More::Yes } else { More::No });
        }
        follow.look_again(lines, tell)
    }
}

impl Follow {
    /// Whether it is still the same file, and has not become shorter. While there is none, one is being moved there.
    fn look_again(&mut self, lines: &mut Lines, tell: &mut dyn FnMut(Line<'_>) -> bool) -> io::Result<More> {
        let Ok(there) = std::fs::metadata(&self.path) else { return Ok(More::Later) };
        let here = self.file.metadata()?;
        if (there.dev(), there.ino()) == (here.dev(), here.ino()) {
            if there.len() >= self.read {
                return Ok(More::Later);
            }
            // It was cut: what was open is gone with it.
            *lines = Lines::default();
            self.file.seek(SeekFrom::Start(0))?;
            self.read = 0;
            return Ok(More::Yes);
        }
        // Whoever writes may have the old one open until it notices: what came since the last look is read first.
        let Ok(file) = File::open(&self.path) else { return Ok(More::Later) };
        let mut rest = Vec::new();
        self.file.by_ref().take(LONGEST as u64).read_to_end(&mut rest)?;
        if !lines.take(&rest, tell) {
            return Ok(More::No);
        }
        if rest.len() >= LONGEST {
            return Ok(More::Yes);
        }
        if !lines.finish(tell) {
            return Ok(More::No);
        }
        self.file = file;
        self.read = 0;
        Ok(More::Yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Reads until there is nothing more for now.
    fn all(input: &mut Input, lines: &mut Lines) -> Vec<String> {
        let mut told = Vec::new();
        while input
            .read(lines, &mut |line| {
                told.push(
                    line.map_or("too long".to_owned(), |line| String::from_utf8_lossy(line).into_owned()),
                );
                true
            })
            .unwrap()
            == More::Yes
        {}
        told
    }

    #[test]
    fn lines_come_whole_and_once() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for piece in ["a\nb", "", "c", "\n\nd\n", "e"] {
            lines.take(piece.as_bytes(), &mut |line| {
                told.push(String::from_utf8(line.unwrap().to_vec()).unwrap());
                true
            });
        }
        assert_eq!(told, ["a", "bc", "", "d"]);
        lines.finish(&mut |line| {
            told.push(String::from_utf8(line.unwrap().to_vec()).unwrap());
            true
        });
        assert_eq!(told.last().unwrap(), "e");
    }

    #[test]
    fn a_line_without_end_is_bounded_and_told() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for _ in 0..40 {
            lines.take(&vec![b'x'; PIECE], &mut |_| panic!("no line ended"));
            assert!(lines.open.capacity() <= 2 * LONGEST);
        }
        lines.take(b"y\nz\n", &mut |line| {
            told.push(line.map(<[u8]>::to_vec));
            true
        });
        assert_eq!(told, [Err(TooLong), Ok(b"z".to_vec())]);
    }

    #[test]
    fn a_file_is_followed_over_rotation_and_cuts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"1\n2").unwrap();
        let mut input = Input::open(path.to_str().unwrap(), false).unwrap();
        let mut lines = Lines::default();
        assert_eq!(all(&mut input, &mut lines), ["1"]);
        file.write_all(b"2\n3\n").unwrap();
        assert_eq!(all(&mut input, &mut lines), ["22", "3"]);
        // Moved away, written to once more, and a new one in its place.
        std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        assert_eq!(all(&mut input, &mut lines), [""; 0]);
        file.write_all(b"4\n5").unwrap();
        let mut next = File::create(&path).unwrap();
        next.write_all(b"6\n").unwrap();
        assert_eq!(all(&mut input, &mut lines), ["4", "5", "6"]);
        // Copied, and cut.
        next.write_all(b"torn").unwrap();
        assert_eq!(all(&mut input, &mut lines), [""; 0]);
        next.set_len(0).unwrap();
        next.seek(SeekFrom::Start(0)).unwrap();
        next.write_all(b"7\n").unwrap();
        assert_eq!(all(&mut input, &mut lines), ["7"]);
        // Only what is new.
        let mut input = Input::open(path.to_str().unwrap(), true).unwrap();
        next.write_all(b"8\n").unwrap();
        assert_eq!(all(&mut input, &mut Lines::default()), ["8"]);
    }

    #[test]
    fn a_stream_ends_with_a_line_that_has_no_end() {
        let mut input = Input::Stream(Box::new(&b"1\n2"[..]));
        assert_eq!(all(&mut input, &mut Lines::default()), ["1", "2"]);
        assert!(Input::open("/", false).err().unwrap().to_string().contains("a folder"));
        assert!(Input::open("absent", false).is_err());
    }
}
