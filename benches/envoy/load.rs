//! The client and the upstreams, on one thread that never sleeps.
//!
//! Whatever a proxy has to wake costs it time: here nobody has to be woken, and the core that this thread runs on
//! never goes idle. What this thread costs is not measured; it only has to be faster than the proxy.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// Nothing here is silent for longer.
const SILENCE: Duration = Duration::from_secs(60);
/// The end of a head.
const END: &[u8] = b"\r\n\r\n";
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The names of the upstreams, as their clusters have them.
pub const UPSTREAMS: [&str; 2] = ["webapp|v1", "webapp|v2"];

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A request as an upstream got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its place in [`UPSTREAMS`].
    pub upstream: usize,
    pub head: Vec<u8>,
}

/// What makes requests: it writes the next one's bytes behind what is in the buffer.
pub trait Source {
    fn next(&mut self, buffer: &mut Vec<u8>);
}

/// Sends requests through a proxy, and answers those that come out of it.
pub struct Load {
    epoll: OwnedFd,
    upstreams: Vec<TcpListener>,
    /// Connections of proxies to the upstreams.
    served: HashMap<u64, Served>,
    /// The number of the next connection.
    next: u64,
    /// The last request that arrived, where somebody wants to know.
    arrived: Option<Arrival>,
    watched: bool,
}

struct Served {
    upstream: usize,
    stream: TcpStream,
    /// What came and is no whole request yet.
    read: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    written: Vec<u8>,
}

/// Kept connections to one listener, closed with the value.
pub struct Client {
    connections: HashMap<u64, Connection>,
}

impl Load {
    /// Upstreams on free ports.
    pub fn new() -> io::Result<Self> {
        let mut load = Load {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            upstreams: Vec::new(),
            served: HashMap::new(),
            next: UPSTREAMS.len() as u64,
            arrived: None,
            watched: false,
        };
        for number in 0..UPSTREAMS.len() {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            epoll::add(&load.epoll, &listener, EventData::new_u64(number as u64), EventFlags::IN)?;
            load.upstreams.push(listener);
        }
        Ok(load)
    }

    /// Where the upstreams listen, in the order of [`UPSTREAMS`].
    pub fn upstreams(&self) -> io::Result<Vec<SocketAddr>> {
        self.upstreams.iter().map(TcpListener::local_addr).collect()
    }

    /// So many connections, each for one request at a time.
    pub fn connect(&mut self, address: SocketAddr, connections: usize) -> io::Result<Client> {
        let mut client = Client { connections: HashMap::new() };
        for _ in 0..connections {
            let stream = TcpStream::connect(address)?;
            let number = self.watch(&stream)?;
            client.connections.insert(number, Connection { stream, read: Vec::new(), written: Vec::new() });
        }
        Ok(client)
    }

    /// Sends this many requests, as many at a time as there are connections; every answer has to be an upstream's.
    pub fn run(&mut self, client: &mut Client, count: usize, source: &mut dyn Source) -> Result<(), String> {
        let (mut sent, mut answered) = (0, 0);
        for connection in client.connections.values_mut().take(count) {
            connection.send(source)?;
            sent += 1;
        }
        self.until(client, |connection| {
            // The slow way is for what is wrong, or not whole.
            let whole =
                connection.read.starts_with(b"HTTP/1.1 200 ") && connection.read.ends_with(b"\r\n\r\nok");
            match whole {
                true => connection.read.clear(),
                false => match connection.response()? {
                    Some(response) => {
                        return Err(format!(
                            "answered {} {:?}",
                            response.status,
                            String::from_utf8_lossy(&response.body)
                        ));
                    }
                    None => return Ok(false),
                },
            }
            answered += 1;
            if sent < count {
                connection.send(source)?;
                sent += 1;
            }
            Ok(answered == count)
        })
    }

    /// One request: its answer, and what an upstream got of it.
    pub fn exchange(
        &mut self,
        address: SocketAddr,
        request: &[u8],
    ) -> Result<(Response, Option<Arrival>), String> {
        (self.arrived, self.watched) = (None, true);
        let mut client = self.connect(address, 1).map_err(|error| error.to_string())?;
        let mut answer = None;
        for connection in client.connections.values_mut() {
            connection.stream.write_all(request).map_err(|error| error.to_string())?;
        }
        self.until(&mut client, |connection| {
            answer = connection.response()?;
            Ok(answer.is_some())
        })?;
        self.watched = false;
        Ok((answer.ok_or("no answer")?, self.arrived.take()))
    }

    /// Moves bytes, and has looked at what came over a client's connection until that is all.
    fn until(
        &mut self,
        client: &mut Client,
        mut arrived: impl FnMut(&mut Connection) -> Result<bool, String>,
    ) -> Result<(), String> {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let mut last = Instant::now();
        loop {
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&AT_ONCE))
                .map_err(|error| error.to_string())?;
            if events.is_empty() {
                if last.elapsed() > SILENCE {
                    return Err(format!("no answer for {SILENCE:?}"));
                }
                continue;
            }
            last = Instant::now();
            for event in events.drain(..) {
                let number = { event.data }.u64();
                match client.connections.get_mut(&number) {
                    None => self.serve(number).map_err(|error| format!("an upstream: {error}"))?,
                    Some(connection) => {
                        let open = fill(&mut connection.stream, &mut connection.read)
                            .map_err(|error| error.to_string())?;
                        if arrived(connection)? {
                            return Ok(());
                        }
                        if !open {
                            return Err("the proxy closed a connection".to_owned());
                        }
                    }
                }
            }
        }
    }

    /// What an upstream does: takes a connection, or answers what came over one.
    fn serve(&mut self, number: u64) -> io::Result<()> {
        if let Some(listener) = usize::try_from(number).ok().and_then(|number| self.upstreams.get(number)) {
            let (stream, _) = listener.accept()?;
            let accepted = self.watch(&stream)?;
            self.served.insert(accepted, Served { upstream: number as usize, stream, read: Vec::new() });
            return Ok(());
        }
        // One that is not known was the client's, and is closed.
        let Some(served) = self.served.get_mut(&number) else { return Ok(()) };
        let open = fill(&mut served.stream, &mut served.read)?;
        // Envoy sends the next request when it has the answer to the last.
        if served.read.ends_with(END) {
            let head = std::mem::take(&mut served.read);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            served.stream.write_all(answer)?;
            if self.watched {
                self.arrived = Some(Arrival { upstream: served.upstream, head });
            }
        }
        if !open {
            self.served.remove(&number);
        }
        Ok(())
    }

    fn watch(&mut self, stream: &TcpStream) -> io::Result<u64> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let number = self.next;
        self.next += 1;
        epoll::add(&self.epoll, stream, EventData::new_u64(number), EventFlags::IN)?;
        Ok(number)
    }
}

impl Connection {
    fn send(&mut self, source: &mut dyn Source) -> Result<(), String> {
        self.written.clear();
        source.next(&mut self.written);
        // A request is far smaller than a socket's buffer.
        self.stream.write_all(&self.written).map_err(|error| error.to_string())
    }

    /// The response, once it is whole.
    fn response(&mut self) -> Result<Option<Response>, String> {
        let Some(end) = end_of_head(&self.read) else { return Ok(None) };
        let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        let wrong = || format!("no response of HTTP/1.1 with a length: {head:?}");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).ok_or_else(wrong)?;
        if self.read.len() < end + length {
            return Ok(None);
        }
        let body = self.read[end..end + length].to_vec();
        self.read.clear();
        Ok(Some(Response { status, body }))
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(END.len()).position(|window| window == END).map(|place| place + END.len())
}

/// Reads what there is; false at the end of the stream.
fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut bytes = [0; 16 << 10];
    match stream.read(&mut bytes) {
        Ok(0) => Ok(false),
        Ok(size) => {
            buffer.extend_from_slice(&bytes[..size]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        // Envoy closes connections hard when it ends.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error),
    }
}
