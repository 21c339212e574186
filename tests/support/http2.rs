//! HTTP/2 in its plainest form (RFC 9113): many requests at once on one connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// What a header block begins with that says `:status: 200` by the static table.
const STATUS_200: u8 = 0x88;

/// So many GETs of a path at once. Counts those that are answered with 200, and fails if one is answered sooner than that.
pub fn get_all(address: SocketAddr, path: &str, count: usize, least: Duration) -> io::Result<usize> {
    ask_all(address, path, &[], count, |stream, after, status_200| match (status_200, after < least) {
        (false, _) => Err(io::Error::other(format!("stream {stream} is not answered with 200"))),
        (true, true) => Err(io::Error::other(format!("stream {stream} is answered too early"))),
        (true, false) => Ok(()),
    })
}

/// So many GETs of a path at once. Counts the answers, and tells of each: the stream, how long it took, and whether it
/// is 200.
pub fn ask_all(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    count: usize,
    mut answer: impl FnMut(u32, Duration, bool) -> io::Result<()>,
) -> io::Result<usize> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut opening = PREFACE.to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &[]));
    // Room for all the bodies.
    opening.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    writer.write_all(&opening)?;

    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "example.com")];
    let block = block(&[&pseudo, headers].concat());
    let mut sent = Vec::with_capacity(count);
    for index in 0..count {
        sent.push(Instant::now());
        writer.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, stream_id(index), &block))?;
    }
    let mut answered = 0;
    while answered < count {
        let mut head = [0; 9];
        reader.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        reader.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match kind {
            HEADERS => {
                let index = (stream as usize - 1) / 2;
                let status = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                answer(stream, sent[index].elapsed(), status == Some(&STATUS_200))?;
            }
            SETTINGS if flags == 0 => writer.write_all(&frame(SETTINGS, 1, 0, &[]))?,
            // A listener that is drained still answers what was sent.
            GOAWAY if last_stream(&payload) >= stream_id(count - 1) => {}
            RST_STREAM | GOAWAY => {
                return Err(io::Error::other(format!("stream {stream} is reset: {payload:?}")));
            }
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            answered += 1;
        }
    }
    Ok(answered)
}

fn stream_id(index: usize) -> u32 {
    2 * index as u32 + 1
}

/// The last stream that a GOAWAY says is answered.
fn last_stream(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |id| u32::from_be_bytes(*id))
}

/// Begins so many GETs of a path whose headers come to some 55 KB each, and leaves them open: one header of 3.9 KB goes
/// into the table of the connection, and every request names it fourteen times, a byte each time (RFC 7541, 2.3.2).
pub fn open_large(address: SocketAddr, path: &str, count: usize) -> io::Result<TcpStream> {
    const TIMES: usize = 14;
    let mut stream = TcpStream::connect(address)?;
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let large = [b"x-large".as_slice(), &[b'a'; 3900]];
    // The first of the dynamic table; the others are put in no table, so it stays the first.
    let (add, again) = (0x40, 0x80 | 62);
    let mut named = vec![add];
    for text in large {
        named.extend(length(text.len()));
        named.extend(text);
    }
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "example.com")];
    let block = block(&pseudo);
    for index in 0..count {
        let first = if index == 0 { named.as_slice() } else { &[again] };
        let whole = [&block, first, &[again; TIMES - 1]].concat();
        bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream_id(index), &whole));
    }
    stream.write_all(&bytes)?;
    Ok(stream)
}

/// A frame (RFC 9113, 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that are put in no table (RFC 7541, 6.2.2).
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            bytes.extend(length(text.len()));
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The length of a literal, an integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(length: usize) -> Vec<u8> {
    const PREFIX: usize = 0x7f;
    if length < PREFIX {
        return vec![length as u8];
    }
    let mut bytes = vec![PREFIX as u8];
    let mut rest = length - PREFIX;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}
