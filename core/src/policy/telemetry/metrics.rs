use std::cell::RefCell;
use std::collections::HashMap;
use std::iter;
use std::rc::Rc;

use super::istio::{Istio, Seen};
use super::{LabelId, Tag};
use crate::host::{Host, MetricId, MetricType, NumberHash};
use crate::policy::metric::{ISTIO_LABELS, NO_VALUE, metric_name};
use crate::policy::{Decision, Mode, Verdict};

const REQUESTS: &str = "meshfilter_requests_total";
const DURATION: &str = "meshfilter_request_duration_milliseconds";
/// So many histograms are defined ahead.
const MAX_KNOWN: usize = 500;
const DECISIONS: &str = "meshfilter_policy_decisions_total";

/// What one worker keeps at most of combinations of tags; what comes after them is counted with every tag `other`.
pub const MAX_LABEL_SETS: usize = 10_000;

/// What is counted of requests, and under which names.
#[derive(Debug)]
pub struct Counting {
    /// Whether the response's code is a label.
    pub response_code: bool,
    /// Whether requests are timed.
    pub duration: bool,
    /// Makes Istio's labels, where its names are wanted.
    pub istio: Option<Istio>,
}

impl Counting {
    /// Of the counter and of the histogram.
    fn names(&self) -> [&'static str; 2] {
        match self.istio {
            None => [REQUESTS, DURATION],
            Some(_) => ["istio_requests_total", "istio_request_duration_milliseconds"],
        }
    }
}

impl Default for Counting {
    fn default() -> Self {
        Counting { response_code: true, duration: true, istio: None }
    }
}

/// What is counted about a request that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'a> {
    pub route: Option<&'a Rc<str>>,
    pub destination: Option<&'a Rc<str>>,
    pub decision: Decision,
    /// 0 where there was no response; `None` where it is no label.
    pub response_code: Option<u16>,
    pub labels: &'a [LabelId],
    /// `None` where requests are not timed.
    pub milliseconds: Option<u64>,
    /// Where Istio's names are wanted.
    pub istio: Option<Seen>,
}

/// The counter and the histogram of requests: their ids are asked for once per set of labels, and found again by
/// small numbers.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    pub what: Counting,
    sets: RefCell<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    /// By their addresses: the policy has each name once. Kept here, none can become another's.
    names: HashMap<*const u8, (Rc<str>, u32), NumberHash>,
    sets: HashMap<Box<[u32]>, Ids, NumberHash>,
    key: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Ids {
    requests: MetricId,
    duration: Option<MetricId>,
}

/// Whether a request could be counted under its own tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    AsItIs,
    AsOther,
}

impl RequestMetrics {
    /// Keeps [`MAX_LABEL_SETS`] combinations of tags apart.
    pub fn new(what: Counting) -> Self {
        RequestMetrics { what, sets: RefCell::default() }
    }

    /// Says what will be counted. `tags` are the names of those that are labels.
    pub fn announce(&self, tags: &[&str], host: &dyn Host) {
        let [counter, histogram] = self.what.names();
        let code: &[&str] = if self.what.response_code { &["response_code"] } else { &[] };
        let (labels, timed) = match self.what.istio {
            // Istio times by the code, too.
            Some(_) => (ISTIO_LABELS.as_slice(), code),
            None => (["route", "destination", "decision"].as_slice(), [].as_slice()),
        };
        if self.what.duration {
            host.announce(MetricType::Histogram, histogram, &[labels, timed].concat());
        }
        host.announce(MetricType::Counter, counter, &[labels, code, tags].concat());
    }

    /// Makes the proxy show the durations of what is forwarded to these destinations, by the names of their entries: a metric
    /// that it knows by its name costs it less than one whose labels it has to put together. The document bounds how many
    /// there are, and this how many are shown before anything happened.
    pub fn define<'a>(
        &self,
        known: impl Iterator<Item = (&'a Rc<str>, Option<&'a Rc<str>>)>,
        host: &dyn Host,
    ) {
        // Under Istio's names there are more labels than are known before the first request.
        if !self.what.duration || self.what.istio.is_some() {
            return;
        }
        let known = known.map(|(route, destination)| (Some(route), destination));
        for (route, destination) in iter::once((None, None)).chain(known).take(MAX_KNOWN) {
            let labels = labels(route, destination, Decision::Allowed);
            let _ = host.metric(MetricType::Histogram, &metric_name(DURATION, &labels));
        }
    }

    /// Counts a request. `tags` are those that are labels, in the order of the outcome's labels.
    pub fn count<'a>(
        &self,
        outcome: &Outcome<'_>,
        tags: impl Iterator<Item = &'a Tag>,
        host: &dyn Host,
    ) -> Counted {
        let Ok(mut sets) = self.sets.try_borrow_mut() else { return Counted::AsOther };
        let mut counted = Counted::AsItIs;
        sets.set_key(outcome);
        let mut ids = sets.find();
        if ids.is_none() && sets.sets.len() >= MAX_LABEL_SETS && !outcome.labels.is_empty() {
            counted = Counted::AsOther;
            sets.forget_tags(outcome.labels.len());
            ids = sets.find();
        }
        let ids = ids.or_else(|| sets.define(outcome, &self.what, tags, counted, host));
        if let Some(Ids { requests, duration }) = ids {
            host.increment(requests, 1);
            if let (Some(duration), Some(milliseconds)) = (duration, outcome.milliseconds) {
                let _ = host.record(duration, milliseconds);
            }
        }
        counted
    }
}

impl Sets {
    fn set_key(&mut self, outcome: &Outcome<'_>) {
        let route = self.name(outcome.route);
        let destination = self.name(outcome.destination);
        self.key.clear();
        let code = outcome.response_code.unwrap_or(0).into();
        match outcome.istio {
            None => self.key.extend([route, destination, outcome.decision as u32, code]),
            Some(seen) => {
                self.key.extend([destination, code]);
                self.key.extend(seen.key());
            }
        }
        self.key.extend(outcome.labels.iter().map(|label| label.number()));
    }

    /// The number of a name; the document bounds how many there are.
    fn name(&mut self, name: Option<&Rc<str>>) -> u32 {
        let Some(name) = name else { return 0 };
        if let Some((_, number)) = self.names.get(&name.as_ptr()) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.names.insert(name.as_ptr(), (name.clone(), number));
        number
    }

    fn forget_tags(&mut self, tags: usize) {
        self.key.iter_mut().rev().take(tags).for_each(|label| *label = LabelId::OTHER.number());
    }

    fn find(&self) -> Option<Ids> {
        self.sets.get(self.key.as_slice()).copied()
    }

    fn define<'a>(
        &mut self,
        outcome: &Outcome<'_>,
        what: &Counting,
        tags: impl Iterator<Item = &'a Tag>,
        counted: Counted,
        host: &dyn Host,
    ) -> Option<Ids> {
        let code = outcome.response_code.map(|code| ("response_code", code.to_string().into_bytes()));
        let [counter, histogram] = what.names();
        let mut labels = match (&what.istio, outcome.istio) {
            (Some(istio), Some(seen)) => {
                let mut labels = istio.labels(seen, outcome.destination.map(|name| &**name));
                // Istio times by the code, too.
                labels.extend(code.clone());
                labels
            }
            _ => self::labels(outcome.route, outcome.destination, outcome.decision),
        };
        let duration = what.duration.then(|| metric_name(histogram, &labels));
        if what.istio.is_none() {
            labels.extend(code);
        }
        for (tag, label) in tags.zip(outcome.labels) {
            let label = if counted == Counted::AsOther { LabelId::OTHER } else { *label };
            let value = tag.labels.as_ref().map(|values| values.with_value(label, <[u8]>::to_vec));
            labels.push((&tag.name, value.unwrap_or_default()));
        }
        let requests = metric_name(counter, &labels);
        let defined = host.metric(MetricType::Counter, &requests).and_then(|requests| {
            let duration = duration.map(|name| host.metric(MetricType::Histogram, &name)).transpose()?;
            Ok((requests, duration))
        });
        let (requests, duration) = defined
            .inspect_err(|status| log::error!("meshfilter: the proxy does not define {requests}: {status:?}"))
            .ok()?;
        let ids = Ids { requests, duration };
        self.sets.insert(self.key.as_slice().into(), ids);
        Some(ids)
    }
}

/// The labels that every metric of requests has.
fn labels<'a>(
    route: Option<&Rc<str>>,
    destination: Option<&Rc<str>>,
    decision: Decision,
) -> Vec<(&'a str, Vec<u8>)> {
    let text = |name: Option<&Rc<str>>| name.map_or(NO_VALUE, |name| name).as_bytes().to_vec();
    vec![
        ("route", text(route)),
        ("destination", text(destination)),
        ("decision", decision.as_str().as_bytes().to_vec()),
    ]
}

/// The counters of the policies' decisions.
#[derive(Debug, Default)]
pub(super) struct VerdictMetrics(RefCell<HashMap<VerdictKey, (Rc<str>, MetricId), NumberHash>>);

/// The addresses of the policy's name and of the decision's word, and the mode. The name is kept beside it.
type VerdictKey = (*const u8, *const u8, bool);

impl VerdictMetrics {
    /// Says what will be counted.
    pub fn announce(host: &dyn Host) {
        host.announce(MetricType::Counter, DECISIONS, &["policy", "decision", "mode"]);
    }

    /// Counts what a policy decided. The document bounds how many there are.
    pub fn count(&self, verdict: &Verdict, host: &dyn Host) {
        let Verdict { policy, decision, mode } = verdict;
        let Ok(mut policies) = self.0.try_borrow_mut() else { return };
        let key = (policy.as_ptr(), decision.as_ptr(), *mode == Mode::Enforce);
        let id = match policies.get(&key) {
            Some((_, id)) => *id,
            None => {
                let labels = [("policy", &**policy), ("decision", decision), ("mode", mode.as_str())];
                let name = metric_name(DECISIONS, &labels);
                let Ok(id) = host.metric(MetricType::Counter, &name) else { return };
                policies.insert(key, (policy.clone(), id));
                id
            }
        };
        host.increment(id, 1);
    }
}
