//! The Envoy of a run: found, started, asked, ended.

use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::envoy::Address;

/// How long Envoy may take until it is ready: it compiles the module first.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long it may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// So many lines of its log are shown when it ends by itself.
const LAST_LINES: usize = 12;

/// A running Envoy. It ends with the value.
pub struct Envoy {
    child: Child,
    log: PathBuf,
    /// How much of it was looked through.
    heard: u64,
    admin: Address,
    client: reqwest::Client,
}

/// No more of its log is looked through at once.
const AT_ONCE: u64 = 1024 * 1024;

/// Level and text of a line of Envoy's log, where the module warns: `[time][thread][warning][wasm] [file:1] text`.
fn warning(line: &str) -> Option<String> {
    let (head, text) = line.split_once("] ")?;
    let mut parts = head.rsplit("][");
    let (component, level) = (parts.next()?, parts.next()?);
    let is_module = matches!(component, "wasm" | "dynamic_modules");
    if !is_module || !matches!(level, "warning" | "error" | "critical") {
        return None;
    }
    let text = text.split_once("] ").map_or(text, |(_, text)| text);
    Some(crate::report::printable(format!("{level}: {text}").chars()))
}

/// The binary: what was given, `$ENVOY`, `.tools/envoy`, or the first in `PATH`.
///
/// # Errors
/// What to do where there is none.
pub fn find(given: Option<&Path>) -> Result<PathBuf, String> {
    let named = given.map(|path| (path.to_owned(), "--envoy"));
    let named = named.or_else(|| std::env::var_os("ENVOY").map(|path| (PathBuf::from(path), "$ENVOY")));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let in_path = |name: &Path| {
        std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
    };
    if let Some((path, by)) = named {
        // As a shell would have it: a name without a folder is looked up.
        let near = || Some(Path::new(".tools").join(&path)).filter(|path| path.is_file());
        let is_name = path.components().count() == 1 && !path.is_file();
        let found = if is_name { in_path(&path).or_else(near) } else { None };
        let path = found.unwrap_or(path);
        return match path.is_file() {
            true => std::path::absolute(&path).map_err(|error| format!("{by} {}: {error}", path.display())),
            false => {
                Err(format!("{by} {}: there is no such file; it has to be the envoy binary", path.display()))
            }
        };
    }
    let near = Some(PathBuf::from(".tools/envoy")).filter(|path| path.is_file());
    near.or_else(|| in_path(Path::new("envoy")))
        .and_then(|path| std::path::absolute(path).ok())
        .ok_or_else(|| {
            "there is no Envoy; install it (https://www.envoyproxy.io/docs/envoy/latest/start/install), run `make tools` in \
             this repository, or say where it is with --envoy or $ENVOY"
                .to_owned()
        })
}

/// An address that is free now: the given one, or any where its port is 0; `option` is how it is given, up to the address.
///
/// # Errors
/// That somebody has it, and what to do.
pub fn free(address: &Address, option: &str) -> Result<Address, String> {
    let listener =
        TcpListener::bind((address.host.as_str(), address.port)).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "{address} is taken by another program; end it, or use another port: {option}{}",
                    Address::new(address.host.clone(), address.port.saturating_add(1))
                )
            }
            std::io::ErrorKind::PermissionDenied => {
                format!(
                    "{address} needs more rights than this user has; use another port: {option}{}",
                    Address::new(address.host.clone(), address.port.saturating_add(8000))
                )
            }
            _ => format!("{option}{address}: {error}"),
        })?;
    let port = listener.local_addr().map_err(|error| format!("{option}{address}: {error}"))?.port();
    Ok(Address::new(address.host.clone(), port))
}

impl Envoy {
    /// Starts Envoy. Its access log is on the standard output of this process, its own log in the folder.
    ///
    /// # Errors
    /// Why the program cannot be started.
    pub fn start(binary: &Path, folder: &Path, configuration: &Path, admin: Address) -> Result<Self, String> {
        let log = folder.join("envoy.log");
        let mut command = Command::new(binary);
        command
            .arg("-c")
            .arg(configuration)
            .arg("--log-path")
            .arg(&log)
            .args(["--disable-hot-restart", "--log-level", "warning", "--file-flush-interval-msec", "100"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C is for this process, which then ends that one.
            .process_group(0)
            .kill_on_drop(true);
        // The client asks for one even where it never speaks TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        Ok(Envoy { child, log, heard: 0, admin, client: reqwest::Client::new() })
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ready(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(status));
            }
            if self.get("/ready").await.is_ok() {
                return Ok(began.elapsed());
            }
            if began.elapsed() > READY_WITHIN {
                return Err(format!(
                    "Envoy is not ready after {} s\n{}",
                    READY_WITHIN.as_secs(),
                    self.last_lines()
                ));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the module has warned of since the last time: a key set that cannot be had, a rate limit service that does not
    /// answer.
    pub fn heard(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.heard))?;
            file.take(AT_ONCE).read_to_end(&mut bytes)
        });
        // A line that is not finished waits for its end.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place.saturating_add(1));
        let Some(whole) = bytes.get(..end).filter(|_| read.is_ok()) else { return Vec::new() };
        self.heard = self.heard.saturating_add(end as u64);
        String::from_utf8_lossy(whole).lines().filter_map(warning).collect()
    }

    /// Asks the admin interface.
    ///
    /// # Errors
    /// That it does not answer, or not with 200.
    pub async fn get(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}{path}", self.admin);
        let answer = self.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| error.to_string())?;
        answer.text().await.map_err(|error| error.to_string())
    }

    /// The sum of the counters whose names end so.
    pub async fn counter(&self, ending: &str) -> u64 {
        let text = self.get(&format!("/stats?filter={ending}$")).await.unwrap_or_default();
        let values = text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
        values.sum()
    }

    /// Waits until it ends by itself, and says so.
    pub async fn until_it_ends(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => self.ended(status),
            Err(error) => format!("Envoy is lost: {error}"),
        }
    }

    /// Ends it, and waits until it has.
    pub async fn stop(&mut self) {
        let process = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(process) = process {
            let _ = kill_process(process, Signal::TERM);
        }
        if timeout(ENDED_WITHIN, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(LAST_LINES));
        last.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }

    fn ended(&self, status: ExitStatus) -> String {
        use std::os::unix::process::ExitStatusExt;
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, Some(code)) => format!("ended with exit code {code}"),
            (None, None) => "ended".to_owned(),
        };
        let lines = self.last_lines();
        match lines.is_empty() {
            true => format!("Envoy {how}"),
            false => format!("Envoy {how}; its log ends:\n{lines}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_module_warns_of_is_shown_without_where_it_stands() {
        let line = |level: &str, component: &str| {
            format!(
                "[2026-11-29 02:32:08.000][7][{level}][{component}] [source/a.cc:1] wasm log meshfilter: no [key] set"
            )
        };
        let shown = warning(&line("warning", "wasm"));
        assert_eq!(shown.as_deref(), Some("warning: wasm log meshfilter: no [key] set"));
        assert!(warning(&line("error", "dynamic_modules")).is_some());
        for (level, component) in [("info", "wasm"), ("warning", "main")] {
            assert_eq!(warning(&line(level, component)), None);
        }
        assert_eq!(warning("  a line that goes on"), None);
    }
}
