//! Malformed requests over HTTP/2, in frames made by hand.

use super::support::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use super::{Attempt, End, Make, Random};

pub const KINDS: [(&str, Make); 12] = [
    ("h2: bytes in values", values),
    ("h2: pseudo-headers", pseudo_headers),
    ("h2: names of headers", names),
    ("h2: broken HPACK", broken_hpack),
    ("h2: very many headers", many_headers),
    ("h2: streams that are reset", resets),
    ("h2: trailers", trailers),
    ("h2: connect", connect),
    ("h2: frames out of place", out_of_place),
    ("h2: frames of wrong sizes", wrong_sizes),
    ("h2: floods", floods),
    ("h2: noise", noise),
];

const PRIORITY: u8 = 2;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

/// A number with a prefix of 7 bits, RFC 7541, section 5.1.
fn length(bytes: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        bytes.push(length as u8);
        return;
    }
    bytes.push(127);
    length -= 127;
    while length >= 128 {
        bytes.push((length % 128) as u8 | 128);
        length /= 128;
    }
    bytes.push(length as u8);
}

/// Headers as literals that are not indexed, with new names.
fn literals(headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        length(&mut bytes, name.len());
        bytes.extend_from_slice(name);
        length(&mut bytes, value.len());
        bytes.extend_from_slice(value);
    }
    bytes
}

fn block(path: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut all: Vec<(&[u8], &[u8])> =
        vec![(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"example.com"), (b":path", path)];
    all.extend_from_slice(headers);
    literals(&all)
}

/// A block of headers, in frames as large as they may be.
fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16_384).peekable();
    let mut kind = HEADERS;
    let mut bytes = Vec::new();
    if block.is_empty() {
        return frame(HEADERS, flags | END_HEADERS, stream, b"");
    }
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { flags | last } else { last };
        bytes.extend(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    bytes
}

/// A connection that ends once a ping comes back: the proxy has then read what stood before it.
fn connection(frames: &[Vec<u8>]) -> Attempt {
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
    frames.iter().for_each(|frame| bytes.extend_from_slice(frame));
    bytes.extend(frame(PING, 0, 0, b"the last"));
    Attempt { bytes, end: End::Reads(b"the last") }
}

const NAMES: [&[u8]; 10] = [
    b"authorization",
    b"cookie",
    b"x-token",
    b"x-user",
    b"x-try",
    b"canary",
    b"user-agent",
    b"x-agent",
    b"te",
    b"x-blocked",
];
const PATHS: [&[u8]; 7] =
    [b"/", b"/private/x", b"/remote/x", b"/small", b"/sorry", b"/tenants/a/x", b"/v1/x?canary=true"];

fn values(random: &mut Random) -> Attempt {
    let mut value = random.bytes(2000);
    if random.below(4) > 0 {
        value.retain(|byte| *byte >= 0x20 && *byte != 0x7f);
    }
    let name = random.pick(&NAMES);
    let block = block(random.pick(&PATHS), &[(name, &value), (name, &value)]);
    connection(&[headers(1, END_STREAM, &block), headers(3, END_STREAM, &block)])
}

fn pseudo_headers(random: &mut Random) -> Attempt {
    let mut all: Vec<(&[u8], &[u8])> = Vec::new();
    for _ in 0..random.below(8) {
        let name = random.pick(&[
            b":method".as_slice(),
            b":scheme",
            b":authority",
            b":path",
            b":status",
            b":protocol",
            b":",
            b":x",
            b"host",
            b"x-user",
        ]);
        let value = random.pick(&[
            b"GET".as_slice(),
            b"http",
            b"",
            b"/",
            b"*",
            b"example.com",
            b"/\xff",
            b"CONNECT",
            b"200",
            b"a b",
            b"/admin#x",
        ]);
        all.push((name, value));
    }
    connection(&[headers(1, END_STREAM, &literals(&all))])
}

fn names(random: &mut Random) -> Attempt {
    let name = random
        .pick(&[
            b"X-Upper".as_slice(),
            b"",
            b"a b",
            b"a\0b",
            b"\xff",
            b"connection",
            b"transfer-encoding",
            b"upgrade",
            b"proxy-connection",
            b"x-meshfilter-cluster",
            b"x-envoy-retry-on",
            b"content-length",
            b"a:b",
            b"x_y",
        ])
        .to_vec();
    let block = block(random.pick(&PATHS), &[(&name, b"1"), (&name, b"trailers")]);
    connection(&[headers(1, END_STREAM, &block)])
}

fn broken_hpack(random: &mut Random) -> Attempt {
    let good = block(b"/private", &[(b"x-user", b"a")]);
    let bad = match random.below(7) {
        0 => b"\x80".to_vec(),
        1 => b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
        2 => b"\x3f\xff\xff\xff\xff\x0f".to_vec(),
        3 => [good.as_slice(), b"\x00\x85\xff\xff\xff\xff\xff\x01a"].concat(),
        4 => good[..random.below(good.len())].to_vec(),
        5 => [b"\x00\x01a\x7f\xff\xff\x03".as_slice(), b"short"].concat(),
        _ => random.bytes(300),
    };
    connection(&[headers(1, END_STREAM, &bad)])
}

fn many_headers(random: &mut Random) -> Attempt {
    let piece: (&[u8], &[u8]) =
        (random.pick(&NAMES), random.pick(&[b"a=b".as_slice(), b"", b"Bearer e30.e30.AA", b"\xff"]));
    let block = block(b"/private", &vec![piece; 1 + random.below(1500)]);
    connection(&[headers(1, END_STREAM, &block)])
}

fn resets(random: &mut Random) -> Attempt {
    let block = block(
        random.pick(&PATHS),
        &[(b"x-try", b"az"), (b"x-envoy-fault-delay-request", b"20"), (b"cookie", b"jwt=\xff")],
    );
    let mut frames = Vec::new();
    for index in 0..1 + random.below(60) as u32 {
        let stream = 2 * index + 1;
        frames.push(headers(stream, random.pick(&[0, END_STREAM]), &block));
        frames.push(frame(RST_STREAM, 0, stream, &(random.below(14) as u32).to_be_bytes()));
    }
    connection(&frames)
}

fn trailers(random: &mut Random) -> Attempt {
    let trailer =
        literals(&[(random.pick(&[b"x-user".as_slice(), b":path", b"grpc-status", b"x"]), b"\xff")]);
    let data = frame(DATA, 0, 1, &random.bytes(500));
    connection(&[
        headers(1, 0, &block(b"/private", &[])),
        data,
        headers(1, random.pick(&[0, END_STREAM]), &trailer),
    ])
}

fn connect(random: &mut Random) -> Attempt {
    let mut all: Vec<(&[u8], &[u8])> = vec![(b":method", b"CONNECT"), (b":authority", b"example.com:443")];
    if random.below(2) == 0 {
        all.extend_from_slice(&[
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", b"/private"),
        ]);
    }
    all.push((random.pick(&NAMES), b"\xff"));
    connection(&[headers(1, 0, &literals(&all)), frame(DATA, 0, 1, &random.bytes(100))])
}

fn out_of_place(random: &mut Random) -> Attempt {
    let block = block(b"/", &[]);
    let mut frames = Vec::new();
    for _ in 0..1 + random.below(6) {
        let stream = random.below(5) as u32;
        frames.push(match random.below(9) {
            0 => frame(DATA, 0, stream, b"x"),
            1 => frame(CONTINUATION, END_HEADERS, stream, &block),
            2 => frame(RST_STREAM, 0, stream, &[0; 4]),
            3 => frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
            4 => frame(PRIORITY, 0, stream, &[0, 0, 0, stream as u8, 1]),
            5 => frame(SETTINGS, 0, stream, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
            6 => frame(GOAWAY, 0, stream, &[0; 8]),
            7 => frame(random.number() as u8, random.number() as u8, stream, &random.bytes(20)),
            _ => headers(stream, END_STREAM, &block),
        });
    }
    connection(&frames)
}

fn wrong_sizes(random: &mut Random) -> Attempt {
    let kind = random.below(10) as u8;
    let mut bad = frame(kind, random.number() as u8, 1, &random.bytes(30));
    bad[random.below(3)] = random.number() as u8;
    let mut attempt = connection(&[headers(1, 0, &block(b"/", &[])), bad]);
    attempt.end = End::HalfCloses;
    attempt
}

fn floods(random: &mut Random) -> Attempt {
    let one = match random.below(5) {
        0 => frame(PING, 0, 0, &[0; 8]),
        1 => frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]),
        2 => frame(DATA, 0, 1, b""),
        3 => frame(CONTINUATION, 0, 1, &literals(&[(b"a", b"b")])),
        _ => frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
    };
    let first = match random.below(2) {
        0 => frame(HEADERS, 0, 1, &block(b"/", &[])),
        _ => headers(1, 0, &block(b"/private", &[])),
    };
    connection(&[first, one.repeat(1 + random.below(3000))])
}

fn noise(random: &mut Random) -> Attempt {
    let bytes = [PREFACE, &random.bytes(2000)].concat();
    Attempt { bytes, end: random.pick(&[End::HalfCloses, End::Leaves]) }
}
