//! What the pages of the commands show is what the commands print. `MESHFILTER_WRITE_DOCS=1` writes it anew.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use meshfilter_cli::import::dialects::DIALECTS;
use meshfilter_cli::import::scope::Audience;
use regex::Regex;

/// The pages, from the repository's root on.
const PAGES: [&str; 7] = [
    "docs/bootstrap.md",
    "docs/explain.md",
    "docs/testing.md",
    "docs/replay.md",
    "docs/live.md",
    "docs/import.md",
    "docs/rate-limits.md",
];

#[test]
fn the_page_of_import_has_every_kind() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/import.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- kinds -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /kinds -->").unwrap();
    let mut table = "| dialect | kind | API group | for |\n|---|---|---|---|\n".to_owned();
    for dialect in DIALECTS {
        for kind in dialect.kinds {
            let groups: Vec<&str> =
                kind.groups.iter().map(|group| if group.is_empty() { "core" } else { group }).collect();
            let whom = match kind.audience {
                Audience::Everyone | Audience::OfNamespaceIf(_) => "all",
                _ => "the workload of --labels",
            };
            table.push_str(&format!(
                "| {} | {} | {} | {whom} |\n",
                dialect.name,
                kind.name,
                groups.join(", ")
            ));
        }
    }
    let written = format!("{before}<!-- kinds -->\n{table}<!-- /kinds -->{after}");
    if std::env::var_os("MESHFILTER_WRITE_DOCS").is_some() {
        std::fs::write(&page, &written).unwrap();
    } else {
        assert_eq!(text, written, "MESHFILTER_WRITE_DOCS=1 writes it anew");
    }
}

#[test]
fn what_the_pages_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let named =
        Regex::new(r"`((?:tests|cli|src|native|envoy|examples|scripts|benches|fuzz|derive)/[\w./-]+)`")
            .unwrap();
    let in_folder = |folder: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect()
    };
    let mut names = 0;
    for page in in_folder(&root).into_iter().chain(in_folder(&root.join("docs"))) {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in named.captures_iter(&text) {
            names += 1;
            assert!(root.join(&name[1]).exists(), "{}: {}", page.display(), &name[1]);
        }
    }
    assert!(names > 50, "{names}");
}

#[test]
fn the_pages_show_what_the_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in PAGES {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let mut written = String::new();
        let mut rest = text.as_str();
        let mut commands = 0;
        while let Some((before, after)) = rest.split_once("```console\n$ meshfilter ") {
            let (block, after) = after.split_once("```\n").unwrap();
            let (command, shown) = block.split_once('\n').unwrap();
            let mut output = output(&root, command);
            if shown.lines().any(|line| line == "…") {
                assert_parts(shown, &output, page);
                output = shown.to_owned();
            }
            written.push_str(&format!("{before}```console\n$ meshfilter {command}\n{output}```\n"));
            rest = after;
            commands += 1;
        }
        written.push_str(rest);
        assert!(commands > 0, "{page} shows nothing");
        if std::env::var_os("MESHFILTER_WRITE_DOCS").is_some() {
            std::fs::write(root.join(page), &written).unwrap();
        } else {
            assert_eq!(
                without_times(&text),
                without_times(&written),
                "{page}: MESHFILTER_WRITE_DOCS=1 writes it anew"
            );
        }
    }
}

/// Three dots in a line stand for what is left out; the rest is there, line by line and in this order.
fn assert_parts(shown: &str, output: &str, page: &str) {
    let mut rest = format!("\n{output}");
    for part in shown.split("…\n").filter(|part| !part.is_empty()) {
        let (_, after) = rest.split_once(&format!("\n{part}")).unwrap_or_else(|| {
            panic!("{page}: the command does not print, in this place,\n{part}\n{output}")
        });
        rest = format!("\n{after}");
    }
}

fn output(root: &Path, command: &str) -> String {
    let (arguments, input) = command.split_once(" < ").unwrap_or((command, "/dev/null"));
    let ran = Command::new(env!("CARGO_BIN_EXE_meshfilter"))
        .args(words(arguments))
        .stdin(File::open(root.join(input)).unwrap())
        .current_dir(root)
        .output()
        .unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    let printed = String::from_utf8(ran.stdout).unwrap();
    // The report of an import comes first, and is what the page is about.
    if command.starts_with("import ") {
        return told + &printed;
    }
    assert_eq!(told, "", "{command}");
    printed
}

/// A command's words; single quotes keep blanks.
fn words(command: &str) -> Vec<String> {
    let words = Regex::new(r"'([^']*)'|(\S+)").unwrap();
    words
        .captures_iter(command)
        .map(|word| word.get(1).or(word.get(2)).unwrap().as_str().to_owned())
        .collect()
}

fn without_times(text: &str) -> String {
    Regex::new(r"in \d+ ms").unwrap().replace_all(text, "in … ms").into_owned()
}
