//! What came of a case.

use std::time::Duration;

use super::case::{Case, RequestSpec};

/// What came of a case.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The file's name without its ending.
    pub id: String,
    /// What the case shows.
    pub name: String,
    /// One for each request.
    pub requests: Vec<RequestOutcome>,
    /// Counters that are not as expected.
    pub counters: Vec<String>,
    /// What kept it from being run.
    pub error: Option<String>,
    /// What a proxy said meanwhile.
    pub log: String,
    /// How long it took.
    pub took: Duration,
}

/// What came of a request.
#[derive(Clone, Debug, Default)]
pub struct RequestOutcome {
    /// What it shows.
    pub name: String,
    /// Everything that was not as expected.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Nothing was sent yet.
    pub fn of(case: &Case) -> Self {
        let request = |spec: &RequestSpec| RequestOutcome { name: spec.name.clone(), problems: Vec::new() };
        Outcome {
            id: case.id.clone(),
            name: case.name.clone(),
            requests: case.requests.iter().map(request).collect(),
            ..Outcome::default()
        }
    }

    /// Whether all is as expected.
    pub fn is_good(&self) -> bool {
        self.error.is_none()
            && self.counters.is_empty()
            && self.requests.iter().all(|request| request.problems.is_empty())
    }

    /// Everything that is not as expected.
    ///
    /// # Errors
    /// That, a line each.
    pub fn into_result(self) -> Result<(), String> {
        if self.is_good() {
            return Ok(());
        }
        let failed = self.requests.iter().filter(|request| !request.problems.is_empty());
        let mut lines: Vec<String> =
            failed.map(|request| format!("{}: {}", request.name, request.problems.join("; "))).collect();
        lines.extend(self.counters);
        lines.extend(self.error);
        if !self.log.is_empty() {
            lines.push(format!("the proxy's log:\n{}", self.log));
        }
        Err(lines.join("\n"))
    }
}

impl RequestOutcome {
    /// The request was not answered as expected.
    pub fn failed(&mut self, spec: &RequestSpec, round: u32, problems: Vec<String>) {
        if spec.repeat > 1 {
            self.name = format!("{} (round {round})", spec.name);
        }
        self.problems = problems;
    }
}
