//! `docs/install.md`: its commands, for tests to run.

use std::fs;

use super::repository;

/// One block of commands, under the heading that it has.
#[derive(Clone, Debug)]
pub struct Block {
    pub section: String,
    pub lines: Vec<String>,
}

/// A request that the page sends.
#[derive(Clone, Debug)]
pub struct Request {
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// What has to be in the answer.
    pub expected: String,
}

/// Every block of commands of the page.
pub fn blocks() -> Vec<Block> {
    let text = fs::read_to_string(repository("docs/install.md")).unwrap();
    let (mut blocks, mut section) = (Vec::new(), String::new());
    let mut open: Option<Vec<String>> = None;
    for line in text.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(Vec::new()),
            (None, line) => {
                assert!(!line.starts_with("```"), "{line}: a block of another kind, which no test reads");
                if let Some(heading) = line.strip_prefix("## ") {
                    heading.clone_into(&mut section);
                }
            }
            (Some(_), "```") => {
                blocks.push(Block { section: section.clone(), lines: open.take().unwrap_or_default() });
            }
            (Some(lines), line) => lines.push(line.to_owned()),
        }
    }
    assert!(open.is_none(), "docs/install.md ends within a block");
    blocks
}

/// The only block of a section.
pub fn block(section: &str) -> Block {
    let found: Vec<Block> = blocks().into_iter().filter(|block| block.section == section).collect();
    assert_eq!(found.len(), 1, "docs/install.md, {section}");
    found[0].clone()
}

impl Block {
    /// What stands after `kubectl apply -k`.
    pub fn overlay(&self) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix("kubectl apply -k envoy/k8s/"))
    }

    /// What its lines with `curl` send.
    pub fn requests(&self) -> Vec<Request> {
        self.lines.iter().filter(|line| line.contains("curl ")).map(|line| curl(line)).collect()
    }

    /// The commands, more patient where they ask again, and what has to be in their answers.
    pub fn script(&self) -> (String, Vec<String>) {
        let expected =
            self.lines.iter().filter_map(|line| line.split_once("# → ")).map(|(_, text)| text.to_owned());
        (self.lines.join("\n").replace("--retry 30", "--retry 180"), expected.collect())
    }
}

/// `curl -si [-H 'name: value'] http://HOST/PATH   # → EXPECTED`
fn curl(line: &str) -> Request {
    let (command, expected) = line.split_once("# → ").unwrap_or_else(|| panic!("{line}: expects nothing"));
    let (_, arguments) = command.split_once("curl -si ").unwrap_or_else(|| panic!("{line}: no curl -si"));
    let mut headers = Vec::new();
    let mut rest = arguments.trim();
    while let Some(header) = rest.strip_prefix("-H '") {
        let (header, after) = header.split_once('\'').unwrap_or_else(|| panic!("{line}: an open quote"));
        let (name, value) = header.split_once(": ").unwrap_or_else(|| panic!("{line}: no header"));
        headers.push((name.to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    let url = rest.strip_prefix("http://").unwrap_or_else(|| panic!("{line}: no URL"));
    let (host, path) = url.split_once('/').unwrap_or_else(|| panic!("{line}: no path"));
    Request { host: host.to_owned(), path: format!("/{path}"), headers, expected: expected.trim().to_owned() }
}
