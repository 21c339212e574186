//! HTTP/1.1 in its plainest form: a client that sends any bytes, and upstreams that say what they saw.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::proxy::{Headers, Seen};

/// Nobody is silent for longer.
const SILENCE: Duration = Duration::from_secs(30);

/// The longest line, in bytes, and the longest body.
const LONGEST: usize = 16 << 20;

/// A response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Headers,
    /// As it came.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept.
pub struct Client<S = TcpStream>(BufReader<S>);

impl Client {
    /// To this address.
    ///
    /// # Errors
    /// That nobody takes the connection.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Client::over(stream))
    }
}

impl<S: Read + Write> Client<S> {
    /// Over a connection that is there, such as one with TLS.
    pub fn over(stream: S) -> Self {
        Client(BufReader::new(stream))
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// That the connection is closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Reads the answer to a request of this method.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ends before it, `InvalidData` if it is none.
    pub fn receive(&mut self, method: &str) -> io::Result<Response> {
        let (line, headers) = read_head(&mut self.0)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("no status line: {line:?}")))?;
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        let body = if bodiless { Vec::new() } else { read_body(&mut self.0, &headers, true)? };
        Ok(Response { status, headers, body })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// Those of [`Self::send`] and [`Self::receive`].
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.send(&request_bytes(method, path.as_bytes(), "example.com", &headers))?;
        self.receive(method)
    }
}

/// A client that keeps its connection until the server says that it is to be closed, and connects anew then.
pub struct Keeping {
    address: SocketAddr,
    client: Option<Client>,
    /// How many connections there have been.
    pub connections: usize,
}

impl Keeping {
    /// To this address.
    pub fn new(address: SocketAddr) -> Self {
        Keeping { address, client: None, connections: 0 }
    }

    /// One request and its answer. Nothing is tried twice.
    ///
    /// # Errors
    /// Every one is an answer that was lost.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                self.connections = self.connections.saturating_add(1);
                Client::connect(self.address)?
            }
        };
        let response = client.request(method, path, headers)?;
        if response.header("connection").as_deref() != Some("close") {
            self.client = Some(client);
        }
        Ok(response)
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// Those of [`Client`].
pub fn request(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    Client::connect(address)?.request("GET", path, headers)
}

/// A request as it goes over the wire.
pub fn request_bytes<N: AsRef<str>, V: AsRef<[u8]>>(
    method: &str,
    path: &[u8],
    host: &str,
    headers: &[(N, V)],
) -> Vec<u8> {
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend_from_slice(path);
    bytes.extend_from_slice(format!(" HTTP/1.1\r\nhost: {host}\r\n").as_bytes());
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{}: ", name.as_ref()).as_bytes());
        bytes.extend_from_slice(value.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    if matches!(method, "POST" | "PUT" | "PATCH") {
        bytes.extend_from_slice(b"content-length: 0\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// The first line, and the headers with their names in lower case.
fn read_head(reader: &mut impl BufRead) -> io::Result<(String, Headers)> {
    let mut line = || -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if reader.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_ascii_end().to_vec())
    };
    let first = String::from_utf8_lossy(&line()?).into_owned();
    let mut headers = Headers::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            return Ok((first, headers));
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            return Err(invalid("a header without a colon".to_owned()));
        };
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        headers.push((name, value.trim_ascii_start().to_vec()));
    }
}

fn read_body(reader: &mut impl BufRead, headers: &Headers, until_end: bool) -> io::Result<Vec<u8>> {
    let value = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let mut body = Vec::new();
    if value("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
        loop {
            let mut line = String::new();
            reader.by_ref().take(LONGEST as u64).read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(|error| invalid(error.to_string()))?;
            read_exactly(reader, size, &mut body)?;
            reader.by_ref().take(2).read_line(&mut String::new())?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    match value("content-length") {
        Some(length) => {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            let length = length.ok_or_else(|| invalid("content-length is no number".to_owned()))?;
            read_exactly(reader, length, &mut body)?;
        }
        None if until_end => {
            reader.by_ref().take(LONGEST as u64).read_to_end(&mut body)?;
        }
        None => {}
    }
    Ok(body)
}

/// So many bytes more.
fn read_exactly(reader: &mut impl BufRead, size: usize, body: &mut Vec<u8>) -> io::Result<()> {
    if body.len().saturating_add(size) > LONGEST {
        return Err(invalid(format!("a body of more than {LONGEST} bytes")));
    }
    match reader.by_ref().take(size as u64).read_to_end(body)? {
        read if read == size => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What an upstream answers, from the request that it saw: headers and body. The status is 200 unless `:status` is among
/// the headers.
type Respond = Arc<dyn Fn(&Seen) -> (Headers, Vec<u8>) + Send + Sync>;

/// A server that answers everything, and remembers what it saw. It ends with the value.
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stopped: Arc<AtomicBool>,
    forgetful: Arc<AtomicBool>,
}

impl Upstream {
    /// Says its name in `x-upstream`, and in the body the path and the headers that it saw.
    ///
    /// # Errors
    /// That this machine has no port.
    pub fn echo(name: &str) -> io::Result<Self> {
        let own = name.to_owned();
        Self::start(name, move |seen| {
            let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
            let headers: Map<String, Value> =
                seen.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            let body = serde_json::json!({"upstream": own, "path": text(&seen.path), "headers": headers});
            let headers =
                [("x-upstream", own.as_str()), ("content-type", "application/json")].map(owned_header);
            (headers.to_vec(), body.to_string().into_bytes())
        })
    }

    /// Answers as it is told.
    ///
    /// # Errors
    /// That this machine has no port.
    pub fn start(
        name: &str,
        respond: impl Fn(&Seen) -> (Headers, Vec<u8>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let upstream = Upstream {
            address: listener.local_addr()?,
            seen: Arc::default(),
            stopped: Arc::default(),
            forgetful: Arc::default(),
        };
        let (name, respond): (String, Respond) = (name.to_owned(), Arc::new(respond));
        let (seen, stopped) = (upstream.seen.clone(), upstream.stopped.clone());
        let forgetful = upstream.forgetful.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (name, seen, respond) = (name.clone(), seen.clone(), respond.clone());
                let forgetful = forgetful.clone();
                let remember = move |request| {
                    if !forgetful.load(Ordering::Relaxed)
                        && let Ok(mut seen) = seen.lock()
                    {
                        seen.push(request);
                    }
                };
                // A connection that breaks is the client's business.
                thread::spawn(move || serve(stream, &name, &remember, &respond).ok());
            }
        });
        Ok(upstream)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Remembers nothing from now on: a load lasts long.
    pub fn forget(&self) {
        self.forgetful.store(true, Ordering::Relaxed);
    }

    /// The last request.
    pub fn last(&self) -> Option<Seen> {
        self.seen.lock().ok()?.last().cloned()
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn owned_header((name, value): (&str, &str)) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

fn serve(stream: TcpStream, name: &str, remember: &dyn Fn(Seen), respond: &Respond) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let (line, mut headers) = read_head(&mut reader)?;
        let body = read_body(&mut reader, &headers, false)?;
        let mut parts = line.split(' ');
        let (method, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        for (name, _) in &mut headers {
            if name == "host" {
                *name = ":authority".to_owned();
            }
        }
        headers.push(owned_header((":method", method)));
        let request = Seen { cluster: name.to_owned(), path: path.as_bytes().to_vec(), headers, body };
        let (headers, body) = respond(&request);
        remember(request);
        let status = headers.iter().find(|(name, _)| name == ":status").map(|(_, status)| status.as_slice());
        let mut answer = [b"HTTP/1.1 ", status.unwrap_or(b"200"), b" \r\n"].concat();
        for (name, value) in headers.iter().filter(|(name, _)| name != ":status") {
            answer.extend_from_slice(name.as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        if method != "HEAD" {
            answer.extend_from_slice(&body);
        }
        reader.get_mut().write_all(&answer)?;
    }
}
