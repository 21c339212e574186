//! A stock Envoy with the policy of `envoy/envoy.yaml`, as `meshfilter bootstrap` would start it: the module is the one that
//! was built, and the upstreams are two more listeners of the same process.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use meshfilter_cli::envoy::listener::{Action, Chain, Http, Route, VirtualHost};
use meshfilter_cli::envoy::plan::{DEFAULT, Options};
use meshfilter_cli::envoy::plugin::Module;
use meshfilter_cli::envoy::{Address, Bootstrap, Listener};

use crate::http::{Answer, Request};
use crate::support::check::Series;
use crate::support::envoy;
use crate::support::envoy::native::{is_native, native_module};
use crate::support::envoy::sample::read;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub struct Proxy {
    pub port: u16,
    pub admin: u16,
    process: Child,
    folder: PathBuf,
    sent: AtomicU64,
}

impl Proxy {
    pub fn start() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("meshfilter-demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let [port, admin] = [free_port(10000)?, free_port(9901)?];
        fs::write(folder.join("envoy.yaml"), bootstrap(port, admin)?.yaml())?;

        let log = fs::File::create(folder.join("envoy.log"))?;
        let process = Command::new(envoy::binary()?)
            .arg("-c")
            .arg(folder.join("envoy.yaml"))
            .args(["--concurrency", "2", "--disable-hot-restart", "--file-flush-interval-msec", "100"])
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.join("access.log"))?)
            .stderr(log)
            .spawn()?;
        let mut proxy = Proxy { port, admin, process, folder, sent: AtomicU64::new(0) };
        proxy.await_ready()?;
        Ok(proxy)
    }

    fn await_ready(&mut self) -> Result<()> {
        let ready = envoy::wait_until("Envoy ready", || {
            let ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            let ready = || Request::get("/ready").send(self.admin).is_ok_and(|answer| answer.status == 200);
            (ended || ready()).then_some(!ended)
        });
        match ready {
            Ok(true) => Ok(()),
            _ => {
                let log = fs::read_to_string(self.folder.join("envoy.log"))?;
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
                Err(format!("Envoy does not get ready:\n{}", last.join("\n")).into())
            }
        }
    }

    /// Sends a request and waits for the answer.
    pub fn send(&self, request: &Request) -> Result<Answer> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(request.send(self.port)?)
    }

    /// Sends a request so often, all at once.
    pub fn send_at_once(&self, request: &Request, times: usize) -> Result<Vec<Answer>> {
        self.sent.fetch_add(times as u64, Ordering::Relaxed);
        let answers: std::io::Result<_> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..times).map(|_| scope.spawn(|| request.send(self.port))).collect();
            senders.into_iter().map(|sender| sender.join().expect("a sender does not panic")).collect()
        });
        Ok(answers?)
    }

    /// How many requests were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn access_log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("access.log"))?)
    }

    /// The series of a counter, as Prometheus gets them, and their values.
    pub fn counter(&self, name: &str) -> Result<Vec<(Series, u64)>> {
        let text = Request::get("/stats/prometheus").send(self.admin)?.body;
        let series = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((Series::parse(series).filter(|series| series.name == name)?, value.parse().ok()?))
        };
        Ok(text.lines().filter_map(series).collect())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The sample's policy, and an upstream for each of its destinations.
fn bootstrap(port: u16, admin: u16) -> Result<Bootstrap> {
    let here = |port: u16| Address::new("127.0.0.1", port);
    let upstreams = [("v1", here(free_port(0)?)), ("v2", here(free_port(0)?))];
    let mut endpoints: Vec<(String, Vec<Address>)> =
        upstreams.iter().map(|(name, address)| (format!("webapp|{name}"), vec![address.clone()])).collect();
    endpoints.push((DEFAULT.to_owned(), upstreams.iter().map(|(_, address)| address.clone()).collect()));
    let options = Options {
        listen: here(port),
        admin: here(admin),
        endpoints,
        ..Options::new(match is_native() {
            true => Module::Native(native_module()?),
            false => Module::Wasm(envoy::module()?),
        })
    };
    let policy = envoy::sample::policy(&read("envoy/envoy.yaml")?)?.clone();
    let mut bootstrap = options.plan(&policy).map_err(|errors| errors.join("\n"))?.bootstrap;
    bootstrap.listeners.extend(upstreams.map(|(name, address)| upstream(name, address)));
    Ok(bootstrap)
}

/// Answers every request itself, and says its name and what it saw.
fn upstream(name: &str, address: Address) -> Listener {
    let answer = Action::Answer {
        status: 200,
        headers: vec![("x-upstream".to_owned(), name.to_owned())],
        body: format!(
            "{name} saw %REQUEST_HEADER(:METHOD)% %REQUEST_HEADER(:PATH)% x-user=%REQUEST_HEADER(X-USER)%\n"
        ),
    };
    let mut host = VirtualHost::any(None);
    host.routes = vec![Route::new(answer)];
    Listener {
        name: name.to_owned(),
        address: Some(address),
        chains: vec![Chain::new(None, Http::plain(name, vec![host]))],
    }
}

/// This port if nobody has it, else another one.
fn free_port(wanted: u16) -> Result<u16> {
    let listener =
        TcpListener::bind(("127.0.0.1", wanted)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(listener.local_addr()?.port())
}
