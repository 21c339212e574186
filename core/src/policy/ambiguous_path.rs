use super::{Decision, Facts, Mode, Step, line};
use crate::host::LocalReply;
use crate::request::Request;
use crate::trace::{self, Event};

/// The refusal of a request whose path servers differ on; see [`is_ambiguous`](crate::matchers::path::is_ambiguous).
pub fn refuse(request: &Request, facts: &mut Facts) -> Step {
    trace::tell(|| Event::AmbiguousPath);
    let path = request.path().escape_ascii();
    let reason = format_args!("reason=\"servers differ on what the path {path} names\"");
    line::debug("refused", "ambiguousPaths", Mode::Enforce, request, reason);
    facts.decision = Decision::AuthzDenied;
    Step::Reply(Box::new(LocalReply {
        status: 400,
        details: "meshfilter_ambiguous_path".to_owned(),
        body: b"ambiguous path".to_vec(),
        ..LocalReply::default()
    }))
}
