//! How a request goes to the upstream: what Envoy's router reads from its headers.

use std::borrow::Cow;
use std::rc::Rc;

use super::rewrite::PathRewrite;
use super::split::Split;
use crate::host::Host;
use crate::policy::HttpMatch;
use crate::policy::{Facts, fault};
use crate::request::{HeaderEdit, Request};
use crate::trace::{self, Event};

/// Where Envoy's route finds the chosen cluster (`cluster_header`).
pub const CLUSTER: &str = "x-meshfilter-cluster";

/// Where its mirror policies find theirs: Envoy takes no list, so each has a header of its own.
pub const MIRROR_CLUSTERS: [&str; 3] =
    ["x-meshfilter-mirror-cluster", "x-meshfilter-mirror-cluster-2", "x-meshfilter-mirror-cluster-3"];

/// Where Envoy's route finds the host, where it says that it looks (`host_rewrite_header`).
pub const AUTHORITY: &str = "x-meshfilter-authority";

/// Filter state `wasm.…`: the edits that a filter behind makes, and the headers that this one chose.
pub const EDITS: &str = "meshfilter.edits";
/// See [`EDITS`].
pub const CHOSEN: &str = "meshfilter.chosen";
/// The attribute in which a later filter finds [`CHOSEN`].
pub const CHOSEN_STATE: [&str; 2] = ["filter_state", "wasm.meshfilter.chosen"];

/// Where Envoy itself puts the path as it was before a rewrite.
pub const ORIGINAL_PATH: &str = "x-envoy-original-path";

/// Where Envoy itself puts the host as it was.
pub const ORIGINAL_HOST: &str = "x-envoy-original-host";

/// What is done to requests that go on.
#[derive(Debug, Default)]
pub struct Forward {
    /// Where they go; on Envoy's own route if nothing is said.
    pub split: Option<Split>,
    /// Changes to their headers.
    pub request_headers: Vec<HeaderEdit>,
    /// Their new path.
    pub rewrite: Option<PathRewrite>,
    /// Their new host; it goes before a destination's.
    pub authority: Option<Box<[u8]>>,
    /// Timeout and retries, in Envoy's headers.
    pub router_headers: Vec<(&'static str, Vec<u8>)>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
}

/// Who gets a copy.
#[derive(Debug)]
pub struct Mirror {
    /// The name of Envoy's cluster.
    pub cluster: Rc<str>,
    /// How many of a million.
    pub parts_per_million: u32,
}

impl Forward {
    /// Decides where the request goes and how it looks there; None if its path cannot be rewritten. How that reaches Envoy
    /// is the filter's affair.
    pub fn apply(
        &self,
        request: &mut Request,
        matched: Option<&HttpMatch>,
        facts: &mut Facts,
        host: &dyn Host,
    ) -> Option<()> {
        let rewritten = match &self.rewrite {
            Some(rewrite) => Some(rewrite.apply(request, matched)?),
            None => None,
        };
        edit(request, &self.request_headers);
        let destination = self.split.as_ref().and_then(|split| split.choose(request, facts, host));
        let mut authority = self.authority.as_deref();
        if let Some(destination) = destination {
            edit(request, &destination.request_headers);
            facts.response_edits.extend_from_slice(&destination.response_headers);
            facts.destination = Some(destination.cluster.clone());
            authority = authority.or(destination.authority.as_deref());
        }
        if let Some(authority) = authority
            && authority != request.authority()
        {
            let old = request.authority().to_vec();
            set(request, Cow::Borrowed(":authority"), authority);
            set(request, Cow::Borrowed(ORIGINAL_HOST), &old);
        }
        if let Some(new) = rewritten {
            let old = request.path_and_query().to_vec();
            // A CONNECT has no path, and gets none.
            if new != old && !old.is_empty() {
                set(request, Cow::Borrowed(":path"), &new);
                set(request, Cow::Borrowed(ORIGINAL_PATH), &old);
            }
        }
        for (name, value) in &self.router_headers {
            set(request, Cow::Borrowed(name), value);
        }
        for (mirror, copied) in self.mirrors.iter().zip(&mut facts.mirrors) {
            trace::drawing("mirror");
            let drawn = fault::draw(mirror.parts_per_million, host);
            trace::tell(|| Event::Mirror {
                cluster: mirror.cluster.to_string(),
                parts_per_million: mirror.parts_per_million,
                drawn,
            });
            if drawn {
                *copied = Some(mirror.cluster.clone());
            }
        }
        Some(())
    }
}

/// Makes edits that were prepared with the configuration.
fn edit(request: &mut Request, edits: &[HeaderEdit]) {
    for edit in edits {
        match edit {
            HeaderEdit::Set(name, value) => set(request, name.clone(), value),
            HeaderEdit::Add(name, value) => request.add_header(name.clone(), value),
            HeaderEdit::Remove(name) => request.remove_header(name.clone()),
        }
    }
}

/// Sets a header unless it is so already: every edit makes Envoy choose its route anew.
fn set(request: &mut Request, name: Cow<'static, str>, value: &[u8]) {
    if !request.header_values(&name).eq([value]) {
        request.set_header(name, value);
    }
}
