//! How a choice reaches Envoy. What was decided is in the facts and in the request's edits; nothing is decided here.
//!
//! Envoy chooses its route anew after every request header that a plugin edits (ABI 0.2.1), from what the headers are then.
//! So a rewrite of path or host, and on Envoy's own route any edit, could lead somewhere else than what was chosen. What
//! stands in Envoy's configuration says what can be done about it: see [`Rewrites`] and `docs/routing.md`.

use std::borrow::Cow;
use std::cell::Cell;

use super::effects::Edits;
use crate::host::{Host, Result};
use crate::policy::Facts;
use crate::policy::routing::upstream::{AUTHORITY, CHOSEN, CLUSTER, EDITS, MIRROR_CLUSTERS};
use crate::request::{HeaderEdit, Request, clean};

/// Who makes the edits that could move the choice. Envoy's `set_filter_state` in front says so, in `meshfilter.rewrites`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rewrites {
    /// The plugin itself; nothing was said.
    Here,
    /// The route that reads the cluster also reads the host, from a header (`host_rewrite_header`).
    Route,
    /// A filter behind this one, after which nobody chooses any more.
    Filter,
}

/// Where `set_filter_state` says who makes them.
const REWRITES: [&str; 2] = ["filter_state", "meshfilter.rewrites"];

impl Rewrites {
    fn of(host: &dyn Host) -> Self {
        match host.property(&REWRITES).as_deref() {
            Some(b"filter") => Rewrites::Filter,
            Some(b"route") => Rewrites::Route,
            _ => Rewrites::Here,
        }
    }
}

/// What sends a request on: its edits, and the chosen destination.
pub(super) fn send_on(host: &dyn Host, request: &mut Request, facts: &Facts) -> Result<Edits> {
    let mut edits = request.take_edits();
    let mut own = edits.split_off(facts.edits_before_choice.unwrap_or(edits.len()).min(edits.len()));
    let chosen = facts.destination.is_some() || facts.earlier_has(CLUSTER);
    let mut pinned = None;
    if !host.keeps_route() && own.iter().any(|edit| moves(edit.name(), chosen)) {
        let rewrites = Rewrites::of(host);
        if rewrites != Rewrites::Filter && !chosen && own.iter().any(|edit| edit.name().starts_with(':')) {
            pinned = own_cluster(host, facts, &edits);
        }
        match rewrites {
            Rewrites::Filter => hand_on(host, std::mem::take(&mut own))?,
            Rewrites::Route if chosen || pinned.is_some() => own.iter_mut().for_each(by_header),
            Rewrites::Route | Rewrites::Here => {
                if own.iter().any(|edit| edit.name() == ":authority") || (!chosen && pinned.is_none()) {
                    warn_once(facts);
                }
            }
        }
    }
    if let Some(cluster) = facts.destination.as_ref().map(|cluster| cluster.as_bytes()).or(pinned.as_deref())
    {
        set(request, &mut edits, CLUSTER, cluster);
    }
    for (name, cluster) in MIRROR_CLUSTERS.into_iter().zip(&facts.mirrors) {
        if let Some(cluster) = cluster {
            set(request, &mut edits, name, cluster.as_bytes());
        }
    }
    if host.may_be_followed() {
        prove(host, facts, edits.iter().chain(&own))?;
    }
    Ok(Edits { before: edits, after: own })
}

/// The edits of a request that waits, whose headers are read again when it goes on.
pub(super) fn change_so_far(request: &mut Request, facts: &mut Facts) -> Edits {
    let before = request.take_edits();
    facts.not_envoys |= adds(&before);
    Edits { before, after: Vec::new() }
}

/// Whether an edit could make Envoy choose another route: those that the filter chose by its header are left with their
/// virtual host or their path alone, Envoy's own with any header.
fn moves(name: &str, chosen: bool) -> bool {
    matches!(name, ":path" | ":authority") || (!chosen && !name.starts_with("x-envoy-"))
}

/// The cluster of Envoy's own route, if that is what the policy saw: chosen from headers that a client forged, or without
/// those that were added since, it is not.
fn own_cluster(host: &dyn Host, facts: &Facts, edits: &[HeaderEdit]) -> Option<Vec<u8>> {
    if facts.not_envoys || adds(edits) {
        return None;
    }
    host.property(&["xds", "cluster_name"]).filter(|name| !name.is_empty())
}

/// Whether edits do more than take away a token.
fn adds(edits: &[HeaderEdit]) -> bool {
    !edits.iter().all(|edit| matches!(edit, HeaderEdit::Remove(_)))
}

/// The host goes where Envoy's route reads it.
fn by_header(edit: &mut HeaderEdit) {
    if let HeaderEdit::Set(name, _) = edit
        && name == ":authority"
    {
        *name = Cow::Borrowed(AUTHORITY);
    }
}

/// Leaves edits to the filter behind, after those of an earlier meshfilter: a line for each, `=name value`, `+name value` or
/// `-name`. No value has a line break in it.
fn hand_on(host: &dyn Host, edits: Vec<HeaderEdit>) -> Result<()> {
    let mut lines = host.property(&["filter_state", &format!("wasm.{EDITS}")]).unwrap_or_default();
    for edit in &edits {
        let (kind, name, value): (u8, &str, &[u8]) = match edit {
            HeaderEdit::Set(name, value) => (b'=', name, value),
            HeaderEdit::Add(name, value) => (b'+', name, value),
            HeaderEdit::Remove(name) => (b'-', name, b""),
        };
        lines.push(kind);
        lines.extend_from_slice(name.as_bytes());
        lines.push(b' ');
        lines.extend_from_slice(value);
        lines.push(b'\n');
    }
    host.set_filter_state(EDITS, &lines)
}

/// Tells a later meshfilter what this one chose: filter state is nothing that a client can send.
fn prove<'a>(host: &dyn Host, facts: &Facts, edits: impl Iterator<Item = &'a HeaderEdit>) -> Result<()> {
    let ours = |edit: &&HeaderEdit| {
        let name = edit.name();
        name.starts_with("x-meshfilter-") || name.starts_with("x-envoy-")
    };
    let mut names: Vec<u8> = Vec::new();
    for edit in edits.filter(ours).filter(|edit| !matches!(edit, HeaderEdit::Remove(_))) {
        names.extend_from_slice(edit.name().as_bytes());
        names.push(b' ');
    }
    if names.is_empty() {
        return Ok(());
    }
    if let Some(earlier) = &facts.earlier {
        names.extend_from_slice(earlier);
    }
    host.set_filter_state(CHOSEN, &names)
}

/// Sets a header unless it is so already. To add one where there is none costs the proxy less than to replace it.
fn set(request: &Request, edits: &mut Vec<HeaderEdit>, name: &'static str, value: &[u8]) {
    let mut known = request.header_values(name);
    let edit = match (known.next(), known.next()) {
        (None, _) => HeaderEdit::Add,
        (Some(known), None) if known == value => return,
        _ => HeaderEdit::Set,
    };
    edits.push(edit(Cow::Borrowed(name), clean(value).into_owned()));
}

/// Says once in each VM that a rewrite may lead elsewhere.
fn warn_once(facts: &Facts) {
    thread_local! {
        static SAID: Cell<bool> = const { Cell::new(false) };
    }
    if !SAID.replace(true) {
        log::warn!(
            "meshfilter: entry \"{}\" rewrites a request, and Envoy chooses its route anew: by the new host or path, which may \
             be another route. See \"What a rewrite does to the choice\" in docs/routing.md for what keeps it",
            facts.route.as_deref().unwrap_or_default()
        );
    }
}

#[cfg(test)]
mod tests;
