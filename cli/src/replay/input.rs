//! Reads recorded requests as they come, a bounded piece at a time.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::SyncSender;

use indicatif::ProgressBar;

use super::open;
use crate::recorded::{self, Recorded};

/// So many requests go to a worker at once.
const CHUNK: usize = 256;
/// No line is longer; a recorded request has at most 60 KiB of headers.
const LONGEST: u64 = 1024 * 1024;

/// Some requests, and the number of the first.
pub struct Chunk {
    pub first: u64,
    pub items: Vec<Item>,
}

/// A request, where it stands.
pub struct Item {
    /// `file:line`
    pub place: (usize, u64),
    pub what: What,
}

/// A request before and after it is read: workers read lines, an archive comes in one piece.
pub enum What {
    Line(Vec<u8>),
    Read(Result<Box<Recorded>, String>),
}

/// Reads all files, and hands on what is in them. Whoever takes it may have gone.
pub fn read(files: &[String], progress: &ProgressBar, send: &SyncSender<Chunk>) -> Result<(), String> {
    let mut chunks = Chunks { next: 0, items: Vec::with_capacity(CHUNK), send };
    for (index, file) in files.iter().enumerate() {
        let input = progress.wrap_read(open(file)?);
        let mut input = BufReader::with_capacity(1 << 16, input);
        let start = input.fill_buf().map_err(|error| format!("{file}: {error}"))?;
        if is_archive(file, start) {
            archive(index, input, &mut chunks).map_err(|error| format!("{file}: {error}"))?;
        } else {
            lines(index, input, &mut chunks).map_err(|error| format!("{file}: {error}"))?;
        }
    }
    chunks.flush();
    Ok(())
}

/// Whether it is an HTTP Archive: its one member is `log`.
fn is_archive(file: &str, start: &[u8]) -> bool {
    let begin: Vec<u8> = start.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(7).collect();
    file.ends_with(".har") || begin == b"{\"log\":"
}

fn lines(file: usize, mut input: impl BufRead, chunks: &mut Chunks<'_>) -> std::io::Result<()> {
    for number in 1u64.. {
        let mut line = Vec::new();
        if input.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() as u64 == LONGEST && !line.ends_with(b"\n") {
            let mut rest = Vec::new();
            while input.by_ref().take(LONGEST).read_until(b'\n', &mut rest)? > 0 && !rest.ends_with(b"\n") {
                rest.clear();
            }
            let error = Err(format!("the line is longer than {LONGEST} bytes"));
            chunks.push(Item { place: (file, number), what: What::Read(error) });
            continue;
        }
        if !line.trim_ascii().is_empty() {
            chunks.push(Item { place: (file, number), what: What::Line(line) });
        }
    }
    Ok(())
}

fn archive(file: usize, input: impl Read, chunks: &mut Chunks<'_>) -> Result<(), String> {
    let mut number = 0u64;
    recorded::read_archive(input, &mut |recorded| {
        number = number.saturating_add(1);
        chunks.push(Item { place: (file, number), what: What::Read(recorded.map(Box::new)) });
        true
    })
}

struct Chunks<'a> {
    next: u64,
    items: Vec<Item>,
    send: &'a SyncSender<Chunk>,
}

impl Chunks<'_> {
    fn push(&mut self, item: Item) {
        self.items.push(item);
        if self.items.len() >= CHUNK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let items = std::mem::replace(&mut self.items, Vec::with_capacity(CHUNK));
        let first = self.next;
        self.next = self.next.saturating_add(items.len() as u64);
        let _ = self.send.send(Chunk { first, items });
    }
}
