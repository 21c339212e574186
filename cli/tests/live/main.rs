//! `meshfilter top --once` and `meshfilter tap` as processes: admin interfaces that do not answer as they should, and logs that
//! are not what they should be. No Envoy is needed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::Value;

const AFTER: &str = include_str!("after.json");
const INFO: &str =
    "{\"version\":\"9e55/1.40.0/Clean/RELEASE/BoringSSL\",\"state\":\"LIVE\",\"uptime_all_epochs\":\"9s\"}";

fn meshfilter(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshfilter"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server that says something about the path of every request.
fn server(
    answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|length| length > 2) {}
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                // Whoever asks may have heard enough.
                let _ = answer(&path, reader.get_mut());
            });
        }
    });
    address
}

fn say(stream: &mut TcpStream, status: u16, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} \r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

/// Answers about itself, and otherwise so.
fn admin(stats: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> String {
    let address = server(move |path, stream| match path {
        "/server_info" => say(stream, 200, INFO.as_bytes()),
        path if path.starts_with("/stats/prometheus") => say(stream, 200, b""),
        _ => stats(stream),
    });
    address.to_string()
}

/// Every one of them is told by itself; what the good one says is shown, and nothing else is read without bound.
#[test]
fn admins_that_are_slow_dead_garbage_or_huge_are_told() {
    let good = admin(|stream| say(stream, 200, AFTER.as_bytes()));
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let slow = admin(|stream| {
        let mut rest = Vec::new();
        stream.write_all(b"HTTP/1.1 200 \r\ncontent-length: 100\r\n\r\n{")?;
        // Until the other side gives up.
        stream.read_to_end(&mut rest).map(|_| ())
    });
    let garbage = admin(|stream| say(stream, 200, b"<html>not Envoy</html>"));
    let binary = admin(|stream| say(stream, 200, &[0xff; 1000]));
    let refusing = admin(|stream| say(stream, 503, b""));
    let moved = admin(|stream| {
        stream.write_all(b"HTTP/1.1 302 \r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    });
    let torn = admin(|stream| {
        let head = format!("HTTP/1.1 200 \r\ncontent-length: {}\r\n\r\n", AFTER.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(&AFTER.as_bytes()[..AFTER.len() / 2])
    });
    let huge = admin(|stream| {
        stream.write_all(b"HTTP/1.1 200 \r\nconnection: close\r\n\r\n{\"stats\":[")?;
        let piece =
            b"{\"name\":\"wasmcustom.meshfilter_requests_total<route=a>\",\"value\":1},".repeat(16 * 1024);
        for _ in 0..100 {
            stream.write_all(&piece)?;
        }
        Ok(())
    });
    let other = server(|_, stream| say(stream, 200, b"{}")).to_string();
    let admins = [&good, &dead, &slow, &garbage, &binary, &refusing, &moved, &torn, &huge, &other];
    let mut arguments = vec!["top", "--once", "--window", "1s", "--format", "json"];
    arguments.extend(admins.iter().map(|admin| admin.as_str()));
    let ran = command(&arguments).output().unwrap();
    assert_eq!((ran.status.code(), text(&ran.stderr).as_str()), (Some(0), ""));
    let picture: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let envoys = picture["envoys"].as_array().unwrap();
    for (envoy, (address, error)) in envoys.iter().zip([
        (&good, ""),
        (&dead, "Connection refused"),
        (&slow, "no answer within 5 s"),
        (&garbage, "the answer is no statistics of Envoy: expected value"),
        (&binary, "the answer is no statistics of Envoy: expected value"),
        (&refusing, "it answers 503 to /stats"),
        (&moved, "it answers 302 to /stats"),
        (&torn, "end of file before message length reached"),
        (&huge, "its answer is longer than 32 MiB"),
        (&other, "this is no admin interface of Envoy: missing field `version`"),
    ]) {
        assert_eq!(envoy["address"], address.as_str());
        let told = envoy["error"].as_str().unwrap_or_default();
        assert!(
            told.contains(error) && error.is_empty() == told.is_empty(),
            "{address}: {told:?}, not {error:?}"
        );
    }
    assert_eq!(envoys.len(), 10);
    assert_eq!(envoys[0]["state"], "live");
    assert_eq!(picture["warnings"].as_array().unwrap().len(), 9, "{:#}", picture["warnings"]);
    // The counters of the good one stood still.
    assert_eq!(picture["all"]["requests"], 0);
    assert!(picture["key_sets"][0]["age_seconds"].as_f64().is_some_and(|age| age > 0.0));
}

#[test]
fn where_nobody_answers_the_exit_code_is_one() {
    let ran = command(&["top", "http://127.0.0.1:1", "--once", "--window", "1s"]).output().unwrap();
    assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(1), ""));
    assert!(
        text(&ran.stderr).contains("meshfilter: http://127.0.0.1:1 has not answered for"),
        "{}",
        text(&ran.stderr)
    );
    for (arguments, wrong) in [
        (&["top"][..], "this is no terminal; --once prints one plain table"),
        (&["top", "--format", "json"], "--once"),
        (&["top", "--once", "--window", "0s"], "use one such as 5s"),
        (&["top", "ftp://a"], "is no address of an admin interface"),
        (&["top", "--by", ""], "use route, destination, decision, policy, or the name of a tag"),
        (&["tap", "--why"], "--policy"),
        (&["tap", "--decision", "denied"], "authz_denied"),
        (&["tap", "--status", "5x"], "is no status; use one such as 503"),
        (&["tap", "--tag", "tenant"], "use NAME=VALUE"),
        (&["tap", "absent.log"], "meshfilter: absent.log: No such file"),
        (&["tap", "."], "this is a folder; give the file that Envoy logs to"),
        (&["tap", "--policy", "absent.yaml"], "absent.yaml: No such file"),
    ] {
        let ran = command(arguments).output().unwrap();
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}");
        assert!(text(&ran.stderr).contains(wrong), "{arguments:?}: {}", text(&ran.stderr));
    }
}

/// As `meshfilter run` had Envoy write it, among lines that are none.
const LOG: &str = r#"[2026-11-29 02:32:08.000][1][info] starting
{"authority":"webapp","client":"10.0.0.9","decision":"allowed","details":"via_upstream","duration_ms":34,"flags":"-","method":"GET","path":"/","peer":null,"protocol":"HTTP/1.1","route":"weighted","status":200,"tenant":"acme","time":"2026-11-29T02:32:08.310Z","upstream":"10.0.0.1:80"}
{"authority":"webapp","client":"10.0.0.9","details":"rbac_access_denied_matched_policy[no-admin]","duration_ms":0,"flags":"-","method":"GET","path":"/admin/x","peer":null,"protocol":"HTTP/1.1","route":null,"status":403,"tenant":"globex","time":"2026-11-29T02:32:08.400Z","upstream":null}

{"authority":"webapp","torn
{"no":"request"}
[1,2]
{"authority":"webapp","client":"10.0.0.9","decision":"allowed","details":"via_upstream","duration_ms":1500,"flags":"-","method":"POST","path":"/api/orders","peer":null,"protocol":"HTTP/2","route":"weighted","status":503,"tenant":"acme","time":"2026-11-29T02:32:08.500Z","upstream":"10.0.0.2:80"}
{"authority":"webapp","client":"10.0.0.9","decision":"rate_limited","details":"local_rate_limited","duration_ms":0,"flags":"-","method":"GET","path":"/\u001b[2J","peer":null,"protocol":"HTTP/1.1","route":"weighted","status":429,"tenant":"a b","time":"2026-11-29T02:32:09.100Z","upstream":null}"#;

#[test]
fn tap_shows_one_line_a_request_and_leaves_out_what_is_none() {
    let ran = meshfilter(&["tap"], LOG.as_bytes());
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(
        text(&ran.stdout),
        "02:32:08.310 src=10.0.0.9 :method=GET :authority=webapp :path=/ :status=200 latency=34ms decision=allowed route=weighted\n\
         02:32:08.400 src=10.0.0.9 :method=GET :authority=webapp :path=/admin/x :status=403 latency=0ms decision=authz_denied\n\
         02:32:08.500 src=10.0.0.9 :method=POST :authority=webapp :path=/api/orders :status=503 latency=1500ms decision=allowed \
         route=weighted\n\
         02:32:09.100 src=10.0.0.9 :method=GET :authority=webapp :path=/\\u{1b}[2J :status=429 latency=0ms decision=rate_limited \
         route=weighted\n"
    );
    assert_eq!(
        text(&ran.stderr),
        "meshfilter: -:1: left out: no JSON: expected `,` or `]` at line 1 column 6; if this is Envoy's text log, turn the JSON \
         log on: curl -X POST 'localhost:9901/runtime_modify?access_log.json=100&access_log.text=0'\n\
         meshfilter: 4 lines of 9 are no requests, and were left out\n"
    );
}

#[test]
fn tap_filters_limits_and_prints_in_three_forms() {
    let paths = |arguments: &[&str]| -> Vec<String> {
        let ran = meshfilter(&[&["tap", "-", "-o", "json"], arguments].concat(), LOG.as_bytes());
        let path =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().to_owned();
        text(&ran.stdout).lines().map(path).collect()
    };
    for (arguments, expected) in [
        (&["--status", "5xx"][..], &["/api/orders"][..]),
        (&["--status", "403", "--status", "200"], &["/", "/admin/x"]),
        (&["--decision", "authz_denied"], &["/admin/x"]),
        (&["--method", "post"], &["/api/orders"]),
        (&["--path", "/a"], &["/admin/x", "/api/orders"]),
        (&["--route", "none"], &["/admin/x"]),
        (&["--route", "weighted", "--tag", "tenant=acme"], &["/", "/api/orders"]),
        (&["--tag", "tenant=a b"], &["/\\u{1b}[2J"]),
        (&["--rate", "2"], &["/", "/admin/x", "/\\u{1b}[2J"]),
    ] {
        assert_eq!(paths(arguments), expected, "{arguments:?}");
    }
    let ran = meshfilter(&["tap", "--rate", "1"], LOG.as_bytes());
    assert!(text(&ran.stderr).contains("meshfilter: 2 more requests, left out by --rate\n"));
    let wide = meshfilter(&["tap", "-o", "wide", "--decision", "rate_limited"], LOG.as_bytes());
    assert_eq!(
        text(&wide.stdout),
        "2026-11-29T02:32:09.100Z src=10.0.0.9 :method=GET :authority=webapp :path=/\\u{1b}[2J :status=429 latency=0ms \
         decision=rate_limited route=weighted details=local_rate_limited protocol=HTTP/1.1 tenant=\"a b\"\n"
    );
    // A log without routes: who asks for one is told what to do.
    let bare = br#"{"method":"GET","path":"/","details":"via_upstream","status":200}"#;
    let ran = meshfilter(&["tap", "--route", "weighted"], bare);
    assert!(
        text(&ran.stderr).contains("give the policy with --policy, or let it write them"),
        "{}",
        text(&ran.stderr)
    );
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("live-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

const POLICY: &str = r#"authentication:
  jwtRules:
  - issuer: https://auth.example.com
    jwksUri: https://auth.example.com/keys
  requirements:
  - match: [{uri: {prefix: /private}}]
    require: any
  - require: optional
authorization:
- name: roles
  action: ALLOW
  rules:
  - when: [{key: "request.headers[user-role]", values: [admin, user]}]
  - when: [{key: "request.auth.claims[groups]", values: [ops]}]
http:
- name: canary
  match: [{headers: {user-role: {exact: admin}}}]
  route: [{destination: {host: webapp, subset: v2}}]
- name: aborts
  match: [{uri: {prefix: /abort}}]
  fault: {abort: {percentage: {value: 10}, httpStatus: 503}}
  route: [{destination: {host: webapp, subset: v1}}]
- name: rest
  route: [{destination: {host: webapp, subset: v1}}]
rateLimits:
- name: per-tenant
  key: [{header: x-tenant}]
  tokenBucket: {maxTokens: 5, tokensPerFill: 5, fillInterval: 1s}
telemetry:
  tags:
  - {name: role, value: {header: user-role}, in: [logs]}
  - {name: tenant, value: {header: x-tenant}}
  - {name: groups, value: {claim: groups}, in: [logs]}
"#;

/// Every reason has the rule with its line, what it looked at, and the value that came.
#[test]
fn why_names_rule_field_and_value() {
    let policy = folder("why").join("policy.yaml");
    fs::write(&policy, POLICY).unwrap();
    let policy = policy.to_str().unwrap();
    let line = |rest: &str| {
        format!(
            "{{\"time\":\"2026-11-29T02:32:08.310Z\",\"method\":\"GET\",\"authority\":\"webapp\",{rest}}}\n"
        )
    };
    for (logged, agrees, parts) in [
        (
            r#""path":"/a","status":403,"details":"rbac_access_denied_matched_policy[none]","role":"guest""#,
            true,
            &[
                "roles (ALLOW)",
                "policy.yaml:10)",
                "request.headers[user-role] is \"guest\", wanted admin or user",
            ][..],
        ),
        (
            r#""path":"/a","status":200,"details":"via_upstream","role":"admin""#,
            true,
            &["canary", "policy.yaml:16)", "webapp|v2"],
        ),
        (
            r#""path":"/a","status":200,"details":"via_upstream","groups":"[\"ops\"]""#,
            true,
            &["rest", "webapp|v1"],
        ),
        (
            r#""path":"/private","status":401,"details":"jwt_authn_access_denied{Jwt_is_missing}""#,
            true,
            &["no token", "policy.yaml:3)"],
        ),
        (
            r#""path":"/private","status":401,"details":"jwt_authn_access_denied{Jwt_is_expired}""#,
            true,
            &["Jwt is expired; requirement", "policy.yaml:6)", "asks for any"],
        ),
        (
            r#""path":"/a","status":429,"details":"local_rate_limited","role":"user","tenant":"acme""#,
            true,
            &["per-tenant", "x-tenant", "policy.yaml:", "no tokens left"],
        ),
        (
            r#""path":"/abort/a","status":503,"details":"fault_filter_abort","role":"user""#,
            true,
            &["policy.yaml:", "10 %"],
        ),
        (
            r#""path":"/a","status":200,"details":"via_upstream""#,
            false,
            &[
                "this policy says authz_denied",
                "headers, cookies, the query and claims are in the log where they are tags",
            ],
        ),
        (
            r#""path":"/a%2Fb","status":400,"details":"path_normalization_failed""#,
            false,
            &["before the filter sees it"],
        ),
        (
            r#""path":"/a","status":429,"details":"local_rate_limited","role":"user""#,
            false,
            &["no limit of this policy applies"],
        ),
    ] {
        let arguments = ["tap", "-", "--why", "--policy", policy, "-o", "json"];
        let ran = meshfilter(&arguments, line(logged).as_bytes());
        assert_eq!(text(&ran.stderr), "", "{logged}");
        let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
        let reason = told["why"]["reason"].as_str().unwrap();
        assert_eq!(told["why"]["agrees"], agrees, "{logged}: {reason}");
        for part in parts {
            assert!(reason.contains(part), "{logged}: {reason} has no {part:?}");
        }
    }
    // In text it is a line of its own; the route comes from the policy where the log has none.
    let log = line(r#""path":"/a","status":200,"details":"via_upstream","role":"admin""#);
    let ran = meshfilter(&["tap", "--route", "canary", "--why", "--policy", policy], log.as_bytes());
    assert!(text(&ran.stdout).contains(" route=canary\n  why: "), "{}", text(&ran.stdout));
}

struct Running(Child, BufReader<std::process::ChildStdout>);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running(child, out)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is written in pieces, moved away, cut and written anew is shown once, whole, in its order.
#[test]
fn a_log_is_followed_over_rotation() {
    let folder = folder("rotation");
    let path = folder.join("access.log");
    let request = |path: &str| format!("{{\"method\":\"GET\",\"path\":\"{path}\",\"status\":200}}\n");
    let mut file = File::create(&path).unwrap();
    file.write_all(request("/1").as_bytes()).unwrap();
    let mut tap = Running::start(&["tap", path.to_str().unwrap()]);
    assert!(tap.line().contains(":path=/1 "));
    let (begin, end) = (&request("/2")[..20], &request("/2")[20..]);
    file.write_all(begin.as_bytes()).unwrap();
    file.write_all(end.as_bytes()).unwrap();
    assert!(tap.line().contains(":path=/2 "));
    fs::rename(&path, folder.join("access.log.1")).unwrap();
    file.write_all(request("/3").as_bytes()).unwrap();
    assert!(tap.line().contains(":path=/3 "));
    let mut file = File::create(&path).unwrap();
    file.write_all(request("/4").as_bytes()).unwrap();
    assert!(tap.line().contains(":path=/4 "));
    file.write_all(request("/5").as_bytes()).unwrap();
    assert!(tap.line().contains(":path=/5 "));
}
