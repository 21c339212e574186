//! Malformed requests over HTTP/1.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};

use super::{Attempt, End, Make, Random};

pub const KINDS: [(&str, Make); 22] = [
    ("bytes above ASCII in headers", obs_text),
    ("control bytes in headers", control_bytes),
    ("values that broke other plugins", poison),
    ("huge cookies", huge_cookies),
    ("repeated headers", repeated_headers),
    ("very many headers", many_headers),
    ("names of headers", header_names),
    ("broken percent escapes", broken_escapes),
    ("odd paths", odd_paths),
    ("long paths", long_paths),
    ("thousands of parameters", many_parameters),
    ("giant tokens", giant_tokens),
    ("wrong encodings of tokens", wrong_encodings),
    ("odd JSON in tokens", odd_json),
    ("methods", methods),
    ("upgrades", upgrades),
    ("broken request lines", request_lines),
    ("chunked bodies", chunked),
    ("wrong lengths", wrong_lengths),
    ("clients that leave", leaving),
    ("many requests in one go", pipelined),
    ("no HTTP at all", noise),
];

/// A request after which the connection is closed.
fn request(method: &[u8], path: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = [method, b" ", path, b" HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n"].concat();
    for (name, value) in headers {
        bytes.extend_from_slice(&[name, b": ".as_slice(), value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn read(bytes: Vec<u8>) -> Attempt {
    Attempt { bytes, end: End::Reads(b"") }
}

/// Headers that the policy looks at.
const NAMES: [&[u8]; 16] = [
    b"authorization",
    b"cookie",
    b"x-token",
    b"x-user",
    b"x-try",
    b"x-blocked",
    b"canary",
    b"user-agent",
    b"x-agent",
    b"origin",
    b"x-forwarded-for",
    b"x-request-id",
    b"content-type",
    b"accept",
    b"x-envoy-fault-delay-request",
    b"x-envoy-fault-abort-request",
];
const PATHS: [&[u8]; 10] = [
    b"/",
    b"/private/x",
    b"/remote/x",
    b"/admin",
    b"/small",
    b"/old/x",
    b"/sorry",
    b"/tenants/acme/x",
    b"/users/1/keys/2/3",
    b"/v1/x?canary=true&debug=",
];

fn obs_text(random: &mut Random) -> Attempt {
    let bytes: Vec<u8> =
        random.bytes(200).into_iter().map(|byte| if byte < 0x20 { byte | 0x80 } else { byte }).collect();
    let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0x7f).collect();
    let prefix: &[u8] = random.pick(&[b"".as_slice(), b"Bearer ", b"jwt=", b"a=b; session=", b"https://"]);
    let value = [prefix, &bytes].concat();
    read(request(
        b"GET",
        random.pick(&PATHS),
        &[(random.pick(&NAMES), &value), (random.pick(&NAMES), &value)],
    ))
}

fn control_bytes(random: &mut Random) -> Attempt {
    let byte = random.pick(&[0, 1, 8, b'\t', 0x0b, 0x0c, b'\r', b'\n', 0x1b, 0x7f]);
    let value = [b"a".as_slice(), &[byte], b"b"].concat();
    read(request(b"GET", random.pick(&PATHS), &[(random.pick(&NAMES), &value)]))
}

/// Where the folder of shared cases is, its values; else those that are best known.
fn poison(random: &mut Random) -> Attempt {
    use std::sync::LazyLock;
    static VALUES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let folder =
            std::env::var("MESHFILTER_SHARED_CASES").unwrap_or_else(|_| "../shared/cases".to_owned());
        let file = std::path::Path::new(&folder).join("robustness/poison_header_values.json");
        let known = || {
            vec![
                b"YodaoBot/1.0; http://www.yodao.com/help/webmaster/spider/\xa1\xb1; )".to_vec(),
                b"caf\xe9".to_vec(),
                b"\xff".to_vec(),
                b"1 \xc0\xa7\xc0\xa2%2527".to_vec(),
            ]
        };
        let Ok(text) = std::fs::read_to_string(file) else { return known() };
        let file: serde_json::Value = serde_json::from_str(&text).expect("poison_header_values.json");
        let values = file["cases"].as_array().expect("a list of cases").iter();
        values
            .map(|case| STANDARD.decode(case["value_b64"].as_str().expect("a value")).expect("base64"))
            .collect()
    });
    let value = VALUES[random.below(VALUES.len())].clone();
    let name = random.pick(&NAMES);
    let prefix: &[u8] = match name {
        b"authorization" => b"Bearer ",
        b"cookie" => b"jwt=",
        _ => b"",
    };
    let path = match random.below(3) {
        0 => [b"/private?access_token=".as_slice(), &value].concat(),
        _ => random.pick(&PATHS).to_vec(),
    };
    read(request(b"GET", &path, &[(name, &[prefix, &value].concat())]))
}

/// One of the pieces again and again, `most` bytes and a piece at the most.
fn repeated(random: &mut Random, pieces: &[&[u8]], most: usize) -> Vec<u8> {
    let piece = random.pick(pieces);
    piece.repeat(random.below(most) / piece.len() + 1)
}

fn huge_cookies(random: &mut Random) -> Attempt {
    let pieces = [
        b"a=b; ".as_slice(),
        b"jwt=e30.e30.AA; ",
        b"session=\"; ",
        b"role=xxxxxxxxxxxxx;",
        b";;;;=",
        b"canary=tru ; ",
    ];
    let cookies = repeated(random, &pieces, 58_000);
    read(request(b"GET", random.pick(&PATHS), &[(b"cookie", &cookies)]))
}

fn repeated_headers(random: &mut Random) -> Attempt {
    let name = random.pick(&NAMES);
    let headers: Vec<(&[u8], &[u8])> = (0..1 + random.below(95))
        .map(|_| (name, random.pick(&[b"Bearer e30.e30.AA".as_slice(), b"", b"true", b",,,", b"a=b"])))
        .collect();
    read(request(b"GET", random.pick(&PATHS), &headers))
}

fn many_headers(random: &mut Random) -> Attempt {
    let names: Vec<Vec<u8>> =
        (0..60 + random.below(2000)).map(|index| format!("x-{index}").into_bytes()).collect();
    let headers: Vec<(&[u8], &[u8])> = names.iter().map(|name| (name.as_slice(), b"y".as_slice())).collect();
    read(request(b"GET", random.pick(&PATHS), &headers))
}

fn header_names(random: &mut Random) -> Attempt {
    let name = random.pick(&[
        b":path".as_slice(),
        b"x-meshfilter-cluster",
        b"x-meshfilter-mirror-cluster",
        b"X_Under_Score",
        b"",
        b"a b",
        b"a\xffb",
        b"x-envoy-original-path",
        b"x-envoy-retry-on",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-payload",
        b"x-roles",
        b"host",
        b"transfer-encoding",
        b"te",
        b"proxy-connection",
        b"x-forwarded-proto",
        b"x-envoy-force-trace",
        b"\xc3\xa9",
    ]);
    let value = random.pick(&[b"x".as_slice(), b"mirror", b"-1", b"99999999999999999999", b"\"", b"https"]);
    read(request(b"GET", random.pick(&PATHS), &[(name, value), (name, value)]))
}

fn broken_escapes(random: &mut Random) -> Attempt {
    let mut path = random.pick(&PATHS).to_vec();
    for _ in 0..1 + random.below(30) {
        path.extend_from_slice(random.pick(&[
            b"%".as_slice(),
            b"%2",
            b"%zz",
            b"%00",
            b"%2F",
            b"%5c",
            b"%2e%2E/",
            b"%ff",
            b"%c0%af",
            b"%25%32%46",
            b"/",
            b"a",
            b"?",
            b"&x=%",
            b";a=%3b",
        ]));
    }
    read(request(b"GET", &path, &[]))
}

fn odd_paths(random: &mut Random) -> Attempt {
    let whole = random.pick(&[
        b"".as_slice(),
        b"*",
        b"x",
        b"//",
        b"///..//",
        b"/..",
        b"/.;/admin",
        b"/admin;x=y/../b",
        b"http://example.com/private",
        b"https://",
        b"http://a:b@c:99999/x",
        b"?",
        b"/#x",
        b"/a#b?c",
        b"/\\admin",
        b"/a\\..\\b",
        b"/\xff\xfe",
        b"/private/;/;/;",
        b"/tenants//x",
        b"ftp://x/y",
        b"/ /x",
        b"/a\tb",
        b"/[]{}|^`<>\"",
    ]);
    let mut path = whole.to_vec();
    if random.below(2) == 0 {
        path.extend(random.bytes(40).into_iter().filter(|byte| !byte.is_ascii_control() && *byte != b' '));
    }
    read(request(b"GET", &path, &[]))
}

fn long_paths(random: &mut Random) -> Attempt {
    let pieces = [b"/".as_slice(), b";a=b", b"/..", b"/;", b"/users/1", b"%41", b"a", b"/./", b"/keys;x;y"];
    let path = [b"/private".as_slice(), &repeated(random, &pieces, 57_000)].concat();
    read(request(b"GET", &path, &[]))
}

fn many_parameters(random: &mut Random) -> Attempt {
    let pieces = [
        b"&a=b".as_slice(),
        b"&access_token=e30.e30.AA",
        b"&canary=%74rue",
        b"&&&&",
        b"&q",
        b"&debug%3d=",
        b"=&=",
    ];
    let path = [b"/?".as_slice(), &repeated(random, &pieces, 57_000)].concat();
    read(request(b"GET", &path, &[]))
}

fn giant_tokens(random: &mut Random) -> Attempt {
    let mut part = || URL_SAFE_NO_PAD.encode(vec![random.number() as u8; random.below(14_000)]);
    let token = format!("Bearer {}.{}.{}", part(), part(), part());
    read(request(b"GET", b"/private/x", &[(b"authorization", token.as_bytes())]))
}

const HEADERS: [&str; 9] = [
    r#"{"alg":"RS256","kid":"rsa1"}"#,
    r#"{"alg":"PS256","kid":"rsa1"}"#,
    r#"{"alg":"ES256","kid":"ec256"}"#,
    r#"{"alg":"EdDSA","kid":"ed25519"}"#,
    r#"{"alg":"HS256","kid":"hmac1"}"#,
    r#"{"alg":"none"}"#,
    r#"{"alg":"RS256","crit":["exp"],"kid":["x"]}"#,
    r#"{"alg":"ES256","jwk":{"kty":"EC"},"kid":"rsa1"}"#,
    r#"{"alg":null}"#,
];
const PAYLOAD: &str =
    r#"{"iss":"https://auth.example.com","aud":"webapp-api","sub":"mallory","exp":9999999999}"#;

fn wrong_encodings(random: &mut Random) -> Attempt {
    let header = random.pick(&HEADERS);
    let size = random.pick(&[0, 1, 31, 32, 63, 64, 65, 128, 255, 256, 257, 512]);
    let signature = vec![random.number() as u8; size];
    let token = match random.below(8) {
        0 => [header, PAYLOAD, "x"].map(|part| STANDARD.encode(part)).join("."),
        1 => [header, PAYLOAD, "xy"].map(|part| URL_SAFE.encode(part)).join("."),
        2 => [header, PAYLOAD].map(|part| URL_SAFE_NO_PAD.encode(part)).join("."),
        3 => format!("{}..{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&signature)),
        4 => format!("{}.{}.{}.x.y", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(PAYLOAD), "A"),
        5 => format!("{}. {}.\t{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(PAYLOAD), "AB"),
        6 => String::from_utf8_lossy(&random.bytes(60)).replace(|c: char| c.is_control(), "."),
        _ => format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(PAYLOAD),
            URL_SAFE_NO_PAD.encode(&signature)
        ),
    };
    let bearer = format!(
        "{}{token}",
        random.pick(&["Bearer ", "bearer ", "Bearer", "Bearer  ", "Basic ", "Bearer a, Bearer "])
    );
    read(request(
        b"GET",
        b"/private/x",
        &[(b"authorization", bearer.as_bytes()), (b"x-token", token.as_bytes())],
    ))
}

fn odd_json(random: &mut Random) -> Attempt {
    let texts = [
        "[".repeat(30_000),
        "{\"a\":".repeat(5_000),
        format!("{{\"iss\":\"{}\"}}", "\\u0000".repeat(3_000)),
        "{\"iss\":1e999,\"aud\":[[]]}".to_owned(),
        format!("{{{}\"b\":1}}", "\"a\":1,".repeat(4_000)),
        "\u{feff}{}".to_owned(),
        "{\"exp\":-1,\"nbf\":99999999999999999999}".to_owned(),
        "{\"iss\":\"\\ud800\"}".to_owned(),
        "null".to_owned(),
        format!("{{\"iss\":\"https://{}.example.com\"}}", "a".repeat(20_000)),
        "1".repeat(30_000),
        r#"{"iss":"https://other.x","aud":{},"sub":[]}"#.to_owned(),
    ];
    let mut part = |known: &str| match random.below(3) {
        0 => URL_SAFE_NO_PAD.encode(known),
        _ => URL_SAFE_NO_PAD.encode(&texts[random.below(texts.len())]),
    };
    let token = format!("Bearer {}.{}.AA", part(HEADERS[0]), part(PAYLOAD));
    read(request(
        b"GET",
        random.pick(&[b"/private".as_slice(), b"/remote/x", b"/"]),
        &[(b"authorization", token.as_bytes())],
    ))
}

fn methods(random: &mut Random) -> Attempt {
    let method = random.pick(&[
        b"CONNECT".as_slice(),
        b"OPTIONS",
        b"TRACE",
        b"PRI",
        b"get",
        b"G\xffT",
        b"",
        b"M-SEARCH",
        b"DELETE",
        b"PATCH",
        b"HEAD",
        b"SOURCE",
        b"A",
    ]);
    let long = b"X".repeat(1 + random.below(5000));
    let method = if random.below(8) == 0 { long.as_slice() } else { method };
    let path =
        random.pick(&[b"*".as_slice(), b"/", b"example.com:443", b"/private", b"example.com", b"/sorry"]);
    read(request(
        method,
        path,
        &[
            (b"origin", b"https://a.example.com"),
            (b"access-control-request-method", b"PUT"),
            (b"access-control-request-headers", b"a, b\xff"),
        ],
    ))
}

fn upgrades(random: &mut Random) -> Attempt {
    let upgrade =
        random.pick(&[b"websocket".as_slice(), b"h2c", b"TLS/1.0", b"\xff", b"connect-udp", b"a, b"]);
    let mut bytes = request(
        b"GET",
        random.pick(&PATHS),
        &[
            (b"connection", b"upgrade, http2-settings"),
            (b"upgrade", upgrade),
            (b"http2-settings", b"AAMAAABkAARAAAAAAAIAAAAA"),
            (b"sec-websocket-key", b"x"),
            (b"sec-websocket-version", b"13"),
        ],
    );
    bytes.extend(random.bytes(50));
    Attempt { bytes, end: End::HalfCloses }
}

fn request_lines(random: &mut Random) -> Attempt {
    let line = random.pick(&[
        b"GET / HTTP/9.9".as_slice(),
        b"GET /",
        b"GET  /  HTTP/1.1",
        b"GET / HTTP/1.1 x",
        b" GET / HTTP/1.1",
        b"GET\t/\tHTTP/1.1",
        b"GET / http/1.1",
        b"GET /\0 HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.0",
        b"\r\n\r\nGET / HTTP/1.1",
        b"GET /private HTTP/1.1\nhost: a",
    ]);
    let rest = random.pick(&[
        b"\r\n\r\n".as_slice(),
        b"\n\n",
        b"\r\nhost: a\r\nhost: b\r\n\r\n",
        b"\r\nhost:\r\n\r\n",
        b"\r\n: x\r\n\r\n",
        b"\r\n folded\r\n\r\n",
        b"\r\nhost: a\r\n b: c\r\n\r\n",
        b"\r\nno colon\r\n\r\n",
        b"\r\nhost : a\r\n\r\n",
        b"\r\nhost: \xff\r\nconnection: close\r\n\r\n",
    ]);
    Attempt { bytes: [line, rest].concat(), end: End::HalfCloses }
}

fn chunked(random: &mut Random) -> Attempt {
    let mut bytes = request(
        b"POST",
        random.pick(&PATHS),
        &[
            (
                b"transfer-encoding",
                random.pick(&[
                    b"chunked".as_slice(),
                    b"gzip, chunked",
                    b"chunked, chunked",
                    b"CHUNKED",
                    b"x",
                ]),
            ),
            (b"trailer", b"x-user"),
            (b"expect", random.pick(&[b"100-continue".as_slice(), b"", b"x"])),
        ],
    );
    bytes.extend_from_slice(random.pick(&[
        b"5\r\nhello\r\n0\r\n\r\n".as_slice(),
        b"5\r\nhel",
        b"-1\r\n",
        b"ffffffffffffffff\r\nx",
        b"5;a=b\r\nhello\r\n0\r\nx-user: a\xff\r\nx-token: b\r\n\r\n",
        b"zz\r\n",
        b"0\r\n:bad\r\n\r\n",
        b"5\r\nhelloworld\r\n",
        b"",
        b"00000000000000000005\r\nhello\r\n0\r\n\r\n",
    ]));
    Attempt { bytes, end: random.pick(&[End::HalfCloses, End::Leaves]) }
}

fn wrong_lengths(random: &mut Random) -> Attempt {
    let length = random.pick(&[
        b"-1".as_slice(),
        b"99999999999999999999",
        b"5, 5",
        b"5, 6",
        b"0x5",
        b" 5",
        b"+5",
        b"",
        b"10",
    ]);
    let mut bytes = request(
        b"POST",
        random.pick(&PATHS),
        &[(b"content-length", length), (b"content-length", random.pick(&[length, b"3"]))],
    );
    if random.below(3) == 0 {
        bytes =
            request(b"POST", b"/private", &[(b"content-length", length), (b"transfer-encoding", b"chunked")]);
    }
    bytes.extend_from_slice(b"hello");
    Attempt { bytes, end: random.pick(&[End::HalfCloses, End::Leaves]) }
}

fn leaving(random: &mut Random) -> Attempt {
    let headers: [(&[u8], &[u8]); 3] = [
        (b"x-try", b"aaaz"),
        (b"x-envoy-fault-delay-request", b"50"),
        (b"authorization", b"Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL290aGVyLngifQ.AA"),
    ];
    let mut bytes = request(random.pick(&[b"GET".as_slice(), b"POST"]), random.pick(&PATHS), &headers);
    if random.below(2) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    Attempt { bytes, end: End::Leaves }
}

fn pipelined(random: &mut Random) -> Attempt {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(20) {
        let path = random.pick(&PATHS);
        bytes.extend_from_slice(
            &[b"GET ".as_slice(), path, b" HTTP/1.1\r\nhost: example.com\r\ncookie: jwt=\xff\r\n\r\n"]
                .concat(),
        );
    }
    bytes.extend(request(b"GET", b"/sorry", &[]));
    Attempt { bytes, end: random.pick(&[End::Reads(b"sorry"), End::Reads(b""), End::Leaves]) }
}

fn noise(random: &mut Random) -> Attempt {
    let bytes = match random.below(3) {
        0 => [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &random.bytes(300)].concat(),
        1 => vec![0; random.below(70_000)],
        _ => random.bytes(3000),
    };
    Attempt { bytes, end: End::HalfCloses }
}
