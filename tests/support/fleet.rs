//! What a fleet shares: Redis, a rate limit service that counts in it, and Envoys that decide by one policy.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use meshfilter_cli::envoy::Address;
use meshfilter_cli::envoy::plan::Options;
use meshfilter_cli::envoy::plugin::Module;
use serde_json::Value;

use super::envoy::{Envoy, wait_until};
use super::http::Client;
use super::repository;

/// The cluster of the service in every policy here.
pub const CLUSTER: &str = "ratelimit";

/// A child that can be killed, started anew and made to hang.
struct Process {
    command: Command,
    child: Child,
}

impl Process {
    fn start(mut command: Command) -> Result<Self, String> {
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Process { command, child })
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn again(&mut self) -> Result<(), String> {
        self.kill();
        self.child = self.command.spawn().map_err(|error| format!("{:?}: {error}", self.command))?;
        Ok(())
    }

    /// `STOP` makes it hang, `CONT` lets it go on.
    fn signal(&self, name: &str) -> Result<(), String> {
        let done = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        match done {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -{name}: {other:?}")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder of its own, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("meshfilter-fleet-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Folder(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A Redis on a socket of its own.
pub struct Redis {
    process: Process,
    folder: Folder,
}

impl Redis {
    /// Whether what it counted outlives it.
    pub fn start(keeps: bool) -> Result<Self, String> {
        let binary = repository(".tools/bin/redis-server");
        if !binary.exists() {
            return Err(format!("{} is missing: run `scripts/install-tools.sh fleet`", binary.display()));
        }
        let folder = Folder::new()?;
        let mut command = Command::new(binary);
        command
            .args(["--port", "0", "--save", "", "--appendfsync", "always", "--appendonly"])
            .arg(if keeps { "yes" } else { "no" })
            .args(["--unixsocket", "redis.sock", "--dir", "."])
            .current_dir(&folder.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let redis = Redis { process: Process::start(command)?, folder };
        redis.ready()?;
        Ok(redis)
    }

    fn ready(&self) -> Result<(), String> {
        wait_until("Redis answers", || (self.ask(&["PING"]).ok()? == "+PONG").then_some(()))
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.0.join("redis.sock").display())
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn again(&mut self) -> Result<(), String> {
        self.process.again()?;
        self.ready()
    }

    pub fn hang(&self) -> Result<(), String> {
        self.process.signal("STOP")
    }

    pub fn go_on(&self) -> Result<(), String> {
        self.process.signal("CONT")
    }

    /// Sends a command; the answer's first line as Redis writes it, or the text that it announces.
    pub fn ask(&self, words: &[&str]) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.folder.0.join("redis.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(command.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        let Some(length) = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok()) else {
            return Ok(line);
        };
        let mut text = vec![0; length];
        reader.read_exact(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// How many keys it has.
    pub fn keys(&self) -> io::Result<u64> {
        let answer = self.ask(&["DBSIZE"])?;
        answer.trim_start_matches(':').parse().map_err(|_| io::Error::other(answer))
    }

    /// What its data take, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        let answer = self.ask(&["INFO", "memory"])?;
        let bytes = answer.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        bytes.ok_or_else(|| io::Error::other(answer))
    }
}

/// A rate limit service.
pub struct Service {
    process: Process,
    pub address: SocketAddr,
}

impl Service {
    /// One that takes the limit from the question, as envoyproxy/ratelimit does.
    pub fn start(redis: &Redis) -> Result<Self, String> {
        Self::start_with(redis, &[])
    }

    /// One that has its limits from a file and from nowhere else, as Limitador.
    pub fn with_limits(redis: &Redis, limits: &Path) -> Result<Self, String> {
        Self::start_with(redis, &["--limits", &limits.display().to_string()])
    }

    fn start_with(redis: &Redis, arguments: &[&str]) -> Result<Self, String> {
        // The port stays the same when it is started anew.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.map_err(|error| error.to_string())?;
        let binary = repository("target/rate-limit-service/debug/rate-limit-service");
        if !binary.exists() {
            return Err(format!("{} is missing: run `scripts/install-tools.sh fleet`", binary.display()));
        }
        let mut command = Command::new(binary);
        command
            .args(["--redis", &redis.url(), "--listen", &address.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut service = Service { process: Process::start(command)?, address };
        service.ready()?;
        Ok(service)
    }

    fn ready(&mut self) -> Result<(), String> {
        let Service { process, address } = self;
        wait_until("the rate limit service listens", || match process.child.try_wait() {
            Ok(None) => std::net::TcpStream::connect(*address).ok().map(|_| Ok(())),
            ended => Some(Err(format!("the rate limit service ended: {ended:?}"))),
        })?
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn again(&mut self) -> Result<(), String> {
        self.process.again()?;
        self.ready()
    }

    pub fn hang(&self) -> Result<(), String> {
        self.process.signal("STOP")
    }

    pub fn go_on(&self) -> Result<(), String> {
        self.process.signal("CONT")
    }
}

/// An Envoy that decides by a policy, made as `meshfilter bootstrap --echo` makes it, and where it listens.
pub fn envoy(policy: &Value, service: SocketAddr, workers: u32) -> Result<(Envoy, SocketAddr), String> {
    start(policy, vec![(CLUSTER.to_owned(), vec![service.into()])], workers)
}

/// The same for a policy that asks no service.
pub fn envoy_alone(policy: &Value, workers: u32) -> Result<(Envoy, SocketAddr), String> {
    start(policy, Vec::new(), workers)
}

fn start(
    policy: &Value,
    endpoints: Vec<(String, Vec<Address>)>,
    workers: u32,
) -> Result<(Envoy, SocketAddr), String> {
    let any = || Address::new("127.0.0.1", 0);
    let mut options = Options::new(Module::Wasm(super::envoy::module()?));
    (options.listen, options.admin, options.echo, options.endpoints) = (any(), any(), true, endpoints);
    let plan = options.plan(policy).map_err(|errors| errors.join("\n"))?;
    let envoy = Envoy::start_in(workers, |_| plan.bootstrap.value())?;
    let address = envoy.addresses()?.remove("http").ok_or("Envoy does not listen")?;
    Ok((envoy, address))
}

/// What came of many requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// 200.
    pub passed: u64,
    /// 429.
    pub refused: u64,
    /// Anything else.
    pub failed: u64,
}

/// Sends so many requests as fast as it goes, by so many clients for each address; `headers` gets the request's number.
pub fn flood(
    addresses: &[SocketAddr],
    clients: usize,
    requests: u64,
    headers: impl Fn(u64) -> Vec<(&'static str, String)> + Sync,
) -> Outcome {
    let next = AtomicU64::new(0);
    let one_client = |address: SocketAddr| -> io::Result<Outcome> {
        let mut client = Client::connect(address)?;
        let mut outcome = Outcome::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(outcome);
            }
            let headers = headers(number);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match client.request("GET", "/", &headers)?.status {
                200 => outcome.passed += 1,
                429 => outcome.refused += 1,
                _ => outcome.failed += 1,
            }
        }
    };
    thread::scope(|scope| {
        let one_client = &one_client;
        let places = addresses.iter().flat_map(|address| std::iter::repeat_n(*address, clients));
        let threads: Vec<_> = places.map(|address| scope.spawn(move || one_client(address))).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().expect("a client").expect("an answer"));
        outcomes.fold(Outcome::default(), |sum, one| Outcome {
            passed: sum.passed + one.passed,
            refused: sum.refused + one.refused,
            failed: sum.failed + one.failed,
        })
    })
}
