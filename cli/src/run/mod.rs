//! `meshfilter run`: a policy in a real Envoy, to try it.

mod process;
mod subject;
mod summary;
mod watch;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use self::process::Envoy;
pub(super) use self::process::find as find_envoy;
use self::subject::Subject;
use self::watch::Watch;
use super::Outcome;
use super::bootstrap::existing_module;
use super::import::ImportOptions;

/// Try a policy in a real Envoy
///
/// Starts Envoy with what `meshfilter bootstrap` writes, or `meshfilter import` with --import, waits until it is ready, and
/// says what the policy does and three requests to try it with. From then on the access log is shown, alone on standard output;
/// what the module warns of is on standard error. Ctrl-C ends everything.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The policy in YAML or JSON; - is standard input, a folder is the one file in it
    #[arg(value_name = "POLICY", required_unless_present = "import", conflicts_with = "import")]
    policy: Option<String>,

    /// Import the YAML of a mesh and run what comes of it: files, folders, - is standard input
    #[arg(long, value_name = "FILE", num_args = 1..)]
    import: Vec<String>,

    #[command(flatten)]
    options: ImportOptions,

    /// The envoy binary; default is $ENVOY, .tools/envoy, or the first in PATH
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,

    /// When a file changes, check or import it and push the policy without losing a request; a wrong one is told, and the
    /// old one stays
    #[arg(long)]
    watch: bool,
}

const EXAMPLES: &str = "\
Examples:
  meshfilter run examples/policies/canary.yaml --echo
  meshfilter run policy.yaml --endpoint 'webapp|v1=127.0.0.1:8081' --endpoint 'webapp|v2=127.0.0.1:8082' --watch
  meshfilter run policy.yaml --echo --listen 127.0.0.1:0 --admin 127.0.0.1:0
  meshfilter run --import mesh.yaml --echo --watch
  kubectl get virtualservices,authorizationpolicies -n shop -o yaml | meshfilter run --import - --labels app=reviews --echo

The exit code is 0 after Ctrl-C, 1 if the policy is wrong or Envoy ends by itself, 2 if something is missing.";

/// Runs Envoy until somebody ends it.
pub fn run(arguments: &Arguments) -> Outcome {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return misused(&error.to_string()),
    };
    match runtime.block_on(session(arguments)) {
        Ok(()) => Outcome::Good,
        Err(outcome) => outcome,
    }
}

fn misused(problem: &str) -> Outcome {
    eprintln!("meshfilter: {problem}");
    Outcome::Misused
}

async fn session(arguments: &Arguments) -> Result<(), Outcome> {
    let is_input = |name: &String| name == "-";
    if arguments.watch && arguments.policy.iter().chain(&arguments.import).any(is_input) {
        return Err(misused("--watch: standard input does not change; give a file"));
    }
    let options = &arguments.options;
    let proxy = match &arguments.policy {
        Some(policy) => Some(options.proxy(policy).map_err(|option| {
            misused(&format!(
                "{option} says something of a mesh: it goes with --import FILE, not with a policy"
            ))
        })?),
        None => None,
    };
    let unsettled = match &proxy {
        Some(proxy) => Subject::Policy(Box::new(proxy.clone())),
        None => Subject::Import {
            files: arguments.import.clone(),
            options: Box::new(options.clone()),
            scope: options.scope(),
        },
    };
    // What is missing is told before anything is done.
    let texts = if arguments.watch { unsettled.read_again() } else { unsettled.read() };
    let texts = texts.map_err(|error| misused(&error))?;
    let module = existing_module(options.module())?;
    let binary = process::find(arguments.envoy.as_deref()).map_err(|error| misused(&error))?;
    let subject = unsettled.settled().map_err(|error| misused(&error))?;
    let folder = tempfile::Builder::new().prefix("meshfilter-run-").tempdir();
    let folder = folder.map_err(|error| misused(&format!("no folder for Envoy's files: {error}")))?;
    let (policy, mut bootstrap) = subject.prepare(&texts, module.clone(), folder.path())?;
    subject::are_free(&bootstrap).map_err(|error| misused(&error))?;
    let bases = subject::bases(&bootstrap);
    let mut watch = None;
    if arguments.watch {
        watch = Some(Watch::new(folder.path(), module, &bootstrap, texts).map_err(|error| misused(&error))?);
        watch::from_files(&mut bootstrap, folder.path());
    }
    let configuration = folder.path().join("envoy.yaml");
    std::fs::write(&configuration, bootstrap.yaml())
        .map_err(|error| misused(&format!("{}: {error}", configuration.display())))?;

    let mut ends = Ends::new().map_err(|error| misused(&error.to_string()))?;
    let mut envoy = Envoy::start(&binary, folder.path(), &configuration, subject.admin().clone())
        .map_err(|error| misused(&error))?;
    say_for_now("Envoy is starting, and compiles the module …");
    let ready = tokio::select! {
        ready = envoy.ready() => ready,
        () = ends.wait() => {
            envoy.stop().await;
            return Ok(());
        }
    };
    say_for_now("");
    let took = match ready {
        Ok(took) => took,
        Err(error) => {
            envoy.stop().await;
            eprintln!("meshfilter: {error}");
            return Err(Outcome::Wrong);
        }
    };
    say(&format!(
        "{} {} ready after {:.1} s; admin interface http://{}; Ctrl-C ends it\n\n{}\nTry:\n",
        bases.join(", "),
        if bases.len() > 1 { "are" } else { "is" },
        took.as_secs_f64(),
        subject.admin(),
        summary::table(&policy)
    ));
    for request in summary::requests(&policy, bases.first().map_or("", String::as_str)) {
        say(&format!("  {request}\n"));
    }
    say("\n");

    let mut looks = interval(watch::EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            problem = envoy.until_it_ends() => {
                eprintln!("meshfilter: {problem}");
                return Err(Outcome::Wrong);
            }
            () = ends.wait() => {
                envoy.stop().await;
                eprintln!("meshfilter: ended");
                return Ok(());
            }
            _ = looks.tick() => {}
        }
        for line in envoy.heard() {
            eprintln!("envoy: {line}");
        }
        if let Some(watch) = &mut watch {
            let said = tokio::select! {
                said = watch.look(&subject, &envoy) => said,
                () = ends.wait() => {
                    envoy.stop().await;
                    eprintln!("meshfilter: ended");
                    return Ok(());
                }
            };
            if let Some(said) = said {
                eprintln!("meshfilter: {said}");
            }
        }
    }
}

/// On standard error: standard output has the access log alone. Whoever reads this may have heard enough; the run goes on.
fn say(text: &str) {
    let mut output = std::io::stderr().lock();
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}

/// A sign of life, for whoever sits at a terminal, until something else is said.
fn say_for_now(text: &str) {
    if std::io::stderr().is_terminal() {
        say(&format!("\r\x1b[2K{text}"));
    }
}

/// The signals that end a run.
struct Ends([tokio::signal::unix::Signal; 4]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Ends([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ]))
    }

    async fn wait(&mut self) {
        let Ends([interrupt, terminate, hangup, quit]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}
