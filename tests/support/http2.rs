//! HTTP/2 in its plainest form (RFC 9113): many requests at once on one connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a header block begins with that says `:status: 200` by the static table.
const STATUS_200: u8 = 0x88;

/// So many GETs of a path at once. Counts those that are answered with 200, and fails if one is answered sooner than that.
pub fn get_all(address: SocketAddr, path: &str, count: usize, least: Duration) -> io::Result<usize> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut opening = PREFACE.to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &[]));
    writer.write_all(&opening)?;

    let block =
        block(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "example.com")]);
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
                if payload.iter().find(|byte| **byte & 0xe0 != 0x20) != Some(&STATUS_200) {
                    return Err(io::Error::other(format!("stream {stream} is not answered with 200")));
                }
                if sent[index].elapsed() < least {
                    return Err(io::Error::other(format!("stream {stream} is answered too early")));
                }
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

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
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
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}
