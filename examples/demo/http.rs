//! As much of an HTTP client as the demo needs.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A request, and the curl line that sends it.
#[derive(Clone, Default)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
    pub took: Duration,
}

impl Request {
    pub fn get(path: &str) -> Self {
        Request { path: path.to_owned(), headers: Vec::new() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn send(&self, port: u16) -> Result<Answer> {
        let mut request =
            format!("GET {} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n", self.path);
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "\r\n";
        let begin = Instant::now();
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Answer {
            status: status.ok_or_else(|| Error::new(ErrorKind::InvalidData, "no status line"))?,
            head: head.to_owned(),
            body: body.to_owned(),
            took: begin.elapsed(),
        })
    }

    /// Sends it so often, all at once.
    pub fn send_at_once(&self, port: u16, times: usize) -> Result<Vec<Answer>> {
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..times).map(|_| scope.spawn(|| self.send(port))).collect();
            senders.into_iter().map(|sender| sender.join().unwrap()).collect()
        })
    }

    pub fn curl(&self, port: u16) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
        format!("curl -i{headers} localhost:{port}{}", self.path)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The upstream that answered; empty if none did.
    pub fn upstream(&self) -> &str {
        self.header("x-upstream").unwrap_or_default()
    }
}
