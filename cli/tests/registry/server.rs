//! Debian's docker-registry on loopback, as a child of the test.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::envoy::wait_until;
use crate::support::http::request;
use crate::support::repository;

/// Who may use a registry with a password, and the password. bcrypt is what the registry reads.
pub const LOGIN: (&str, &str) = ("alice", "correct horse");
const HTPASSWD: &str = "alice:$2y$05$BCcNMYm2bFjvrSMy2mmXk.kPqANK6UF5vOW0jmGGp9Xgg.8.Prnkq\n";

/// A folder of a test; it is removed with the value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("meshfilter-registry-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A registry without TLS.
pub struct Registry {
    process: Child,
    port: u16,
    _folder: Folder,
}

impl Registry {
    pub fn open() -> Self {
        Self::start("")
    }

    pub fn with_password() -> Self {
        Self::start("auth: {htpasswd: {realm: test, path: HTPASSWD}}\n")
    }

    fn start(auth: &str) -> Self {
        let folder = Folder::new();
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
        let htpasswd = folder.write("htpasswd", HTPASSWD);
        let configuration = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\", secret: test}}\n{}",
            folder.path("storage").display(),
            auth.replace("HTPASSWD", htpasswd.to_str().unwrap()),
        );
        let configuration = folder.write("config.yml", &configuration);
        let process = Command::new(tool("docker-registry"))
            .arg("serve")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut registry = Registry { process, port, _folder: folder };
        let ready = wait_until("the registry", || {
            let ended = registry.process.try_wait().ok().flatten().is_some();
            let answers = request(SocketAddr::from(([127, 0, 0, 1], port)), "/v2/", &[]).is_ok();
            (ended || answers).then_some(answers)
        });
        let log = fs::read_to_string(registry._folder.path("log")).unwrap_or_default();
        assert_eq!(ready, Ok(true), "{log}");
        registry
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A reference to something in it.
    pub fn reference(&self, name: &str) -> String {
        format!("localhost:{}/{name}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tool(name: &str) -> PathBuf {
    let path = repository(".tools/bin").join(name);
    assert!(path.exists(), "{} is missing: run `scripts/install-tools.sh registry`", path.display());
    path
}

/// What a program said and how it ended.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What it printed, if all went well.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it complained of, if it ended like this.
    #[track_caller]
    pub fn complaint(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        self.stderr
    }
}

/// Runs the command with a Docker configuration of the test's own.
pub fn meshfilter(docker: &Path, arguments: &[&str]) -> Ran {
    let path = format!("{}:{}", docker.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshfilter"));
    command
        .args(arguments)
        .env("DOCKER_CONFIG", docker)
        .env("PATH", path)
        .env("NO_PROXY", "localhost,127.0.0.1");
    Ran::of(command.stdin(Stdio::null()).output().unwrap())
}

/// Runs Debian's skopeo, which trusts anything here.
pub fn skopeo(arguments: &[&str]) -> Ran {
    Ran::of(Command::new(tool("skopeo")).arg("--insecure-policy").args(arguments).output().unwrap())
}
