use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener};
use std::thread::JoinHandle;

use super::*;

#[test]
fn registries_of_this_machine_are_known() {
    for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000", "[::1]"] {
        assert!(is_loopback(host), "{host}");
    }
    for host in ["localhost.example.com", "registry:5000", "10.0.0.1:5000", "[::2]:5000", "docker.io"] {
        assert!(!is_loopback(host), "{host}");
    }
}

#[test]
fn a_status_is_told_from_another() {
    let status =
        |code| OciDistributionError::ServerError { code, url: String::new(), message: String::new() };
    for (code, expected) in [
        (401, Trouble::Unauthorized),
        (403, Trouble::Unauthorized),
        (404, Trouble::NotFound),
        (413, Trouble::Refused),
        (500, Trouble::Refused),
    ] {
        assert_eq!(trouble(&status(code)), expected, "{code}");
    }
}

/// A server that answers `/v2/` as an open registry, and everything else with this head and body, sent again and again
/// until the other side has enough or it was sent so often. It ends after one such answer, with how often it was sent.
fn registry(head: &'static str, body: Vec<u8>, times: usize) -> (Reference, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("127.0.0.1:{}/a:1", listener.local_addr().unwrap().port()).parse().unwrap();
    let answer = move || loop {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        let mut to = &stream;
        if first.starts_with("GET /v2/ ") {
            to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            continue;
        }
        to.write_all(format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
        let sent = (0..times).take_while(|_| to.write_all(&body).is_ok()).count();
        let _ = stream.shutdown(Shutdown::Both);
        return sent;
    };
    (reference, std::thread::spawn(answer))
}

#[test]
fn no_more_of_a_manifest_is_read_than_it_may_have() {
    for head in ["200 OK", "200 OK\r\ncontent-length: 1073741824", "500 Oh"] {
        let (reference, server) = registry(head, vec![b' '; 1 << 20], 1024);
        let problem = Registry::of(&reference, None).unwrap().manifest(&reference).unwrap_err();
        let Problem::Wrong(said) = problem else { panic!("{problem:?}") };
        assert!(said.contains("the manifest has more than 4194304 bytes"), "{said}");
        let sent = server.join().unwrap();
        assert!(sent < 512, "{head}: it took {sent} MiB");
    }
    let whole = usize::try_from(MOST_BYTES_OF_A_MANIFEST).unwrap();
    let (reference, _) = registry("200 OK", vec![b' '; whole], 1);
    assert_eq!(Registry::of(&reference, None).unwrap().manifest(&reference).unwrap().len(), whole);
}

#[test]
fn what_a_registry_says_is_shown_in_part_and_without_escape_sequences() {
    let body = [&b"\x1b]0;owned\x07"[..], &[b'x'; 100_000]].concat();
    let (reference, _) = registry("500 Oh", body, 1);
    let problem = Registry::of(&reference, None).unwrap().manifest(&reference).unwrap_err();
    let Problem::Misused(said) = problem else { panic!("{problem:?}") };
    assert!(said.contains("refuses") && said.contains("code: 500") && said.contains("owned"), "{said}");
    assert!(said.len() < 2000 && !said.contains(char::is_control), "{said}");
}

#[test]
fn a_manifest_is_what_its_digest_says() {
    for (wanted, good) in [(digest(b"{}"), true), (digest(b"{ }"), false)] {
        let (reference, _) = registry("200 OK", b"{}".to_vec(), 1);
        let reference = reference.clone_with_digest(wanted);
        let read = Registry::of(&reference, None).unwrap().manifest(&reference);
        assert_eq!(read.is_ok(), good, "{read:?}");
    }
}
