//! Requests that can be sent, all at once too, and shown as the curl line that sends them.

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::http;

/// A GET request.
#[derive(Clone, Default)]
pub struct Request {
    path: String,
    headers: Vec<(String, String)>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub body: String,
    pub took: Duration,
    response: http::Response,
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
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let begin = Instant::now();
        let response = http::request(SocketAddr::from(([127, 0, 0, 1], port)), &self.path, &headers)?;
        let took = begin.elapsed();
        Ok(Answer { status: response.status, body: response.text().trim_end().to_owned(), took, response })
    }

    pub fn curl(&self, port: u16) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
        format!("curl -i{headers} localhost:{port}{}", self.path)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        self.response.header(name)
    }

    /// The upstream that answered; empty if none did.
    pub fn upstream(&self) -> String {
        self.header("x-upstream").unwrap_or_default()
    }
}
